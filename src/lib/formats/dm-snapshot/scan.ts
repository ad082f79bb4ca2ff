/**
 * Owns reading a store's list of exceptions as the kernel does: area by area, up to the first tuple whose new chunk is
 * zero. Judges nothing (judge.ts does that); keeps 8 to 16 bytes an exception, and never more than the store has chunks.
 */
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import { decodeStruct, type StructValues } from "../../bytes/struct.ts";
import { isZero } from "../../bytes/zero.ts";
import { ChunkColumn } from "./chunk-column.ts";
import {
  areaChunk,
  FIRST_DATA_CHUNK,
  isMetadataChunk,
  SECTOR_BYTES,
  type StoreGeometry,
  skipMetadata,
  TUPLE_BYTES,
  TUPLE_LAYOUT,
  type TupleField,
  tupleOffset,
} from "./layout.ts";

/** Areas are read in pieces of at most this many bytes. */
const PIECE_BYTES = 1 << 20;
const UINT32_VALUES = 2 ** 32;
const U64_MASK_BITS = 64;

/** The list as it is on disk. */
export interface StoreScan {
  readonly geometry: StoreGeometry;
  /** Whole sectors of the file, as the kernel would see it. */
  readonly sectors: number;
  /** Whole chunks of the file: chunk numbers of the store are below this. */
  readonly chunks: number;
  /** In the order of the list; numbers above 2^53 are rounded. */
  readonly olds: ChunkColumn;
  readonly news: ChunkColumn;
  /** Areas read, including the last one, which is not full. */
  readonly areas: number;
  /** The chunk that the kernel would allocate next: after the highest chunk in use, even if that makes no sense. */
  readonly nextFree: bigint;
  /** Where the missing next area would begin, beyond the end of the file. */
  readonly missingArea: number | undefined;
  /** Bytes that are not zero after the end of the list, in its last area. */
  readonly stale: { readonly offset: number; readonly length: number } | undefined;
  /** The list has more exceptions than the store has chunks; the rest was not read. */
  readonly isTooLong: boolean;
}

/** One tuple exactly as it is on disk. */
export function readTuple(source: ByteSource, geometry: StoreGeometry, index: number): StructValues<TupleField> {
  const bytes = new Uint8Array(TUPLE_BYTES);
  readZeroFilled(source, bytes, tupleOffset(geometry, index));
  return decodeStruct(TUPLE_LAYOUT, bytes);
}

/** Reads the list at once. @throws CowError `io` */
export function scanStore(source: ByteSource, geometry: StoreGeometry): StoreScan {
  const steps = scanInSteps(source, geometry);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** Reads the list; yields the bytes read so far after each piece, so that a caller can pause and stop. */
export function* scanInSteps(source: ByteSource, geometry: StoreGeometry): Generator<number, StoreScan> {
  const sectors = Math.floor(source.sizeBytes / SECTOR_BYTES);
  const chunks = Math.floor(sectors / geometry.chunkSectors);
  const reader = new ListReader(source, geometry, chunks);
  let areas = 0;
  let missingArea: number | undefined;
  for (let full = true; full; areas++) {
    const chunk = areaChunk(geometry, areas);
    if (chunk >= chunks) {
      missingArea = chunk * geometry.chunkBytes;
      break;
    }
    full = yield* reader.readArea(chunk * geometry.chunkBytes);
  }
  return {
    geometry,
    sectors,
    chunks,
    olds: reader.olds,
    news: reader.news,
    areas,
    nextFree: nextFreeAfter(geometry, reader.highest),
    missingArea,
    stale: reader.stale,
    isTooLong: reader.isTooLong,
  };
}

/** As the kernel computes it at load: one more than the highest, never a metadata chunk. */
function nextFreeAfter(geometry: StoreGeometry, highest: bigint): bigint {
  const first = BigInt(FIRST_DATA_CHUNK);
  const next = BigInt.asUintN(U64_MASK_BITS, highest < first ? first : highest + 1n);
  if (next <= BigInt(Number.MAX_SAFE_INTEGER)) return BigInt(skipMetadata(geometry, Number(next)));
  return next % BigInt(geometry.strideChunks) === 1n ? BigInt.asUintN(U64_MASK_BITS, next + 1n) : next;
}

class ListReader {
  readonly olds = new ChunkColumn();
  readonly news = new ChunkColumn();
  stale: { readonly offset: number; readonly length: number } | undefined;
  isTooLong = false;
  readonly #source: ByteSource;
  readonly #geometry: StoreGeometry;
  readonly #limit: number;
  readonly #buffer: Uint8Array;
  readonly #view: DataView;
  /** The highest new chunk in two halves: an exact u64 without a bigint for each tuple. */
  #highestHigh = 0;
  #highestLow = 0;
  #bytesRead = 0;

  constructor(source: ByteSource, geometry: StoreGeometry, limit: number) {
    this.#source = source;
    this.#geometry = geometry;
    this.#limit = limit;
    this.#buffer = new Uint8Array(Math.min(PIECE_BYTES, geometry.chunkBytes));
    this.#view = new DataView(this.#buffer.buffer);
  }

  get highest(): bigint {
    return (BigInt(this.#highestHigh) << 32n) | BigInt(this.#highestLow);
  }

  /** Takes the tuples of one area; true if it is full, so that the next one has to be read. */
  *readArea(areaOffset: number): Generator<number, boolean> {
    const { chunkBytes } = this.#geometry;
    for (let at = 0; at < chunkBytes; at += this.#buffer.length) {
      readZeroFilled(this.#source, this.#buffer, areaOffset + at);
      const taken = this.#takeTuples();
      this.#bytesRead += this.#buffer.length;
      yield this.#bytesRead;
      if (this.isTooLong) return false;
      if (taken < this.#buffer.length) {
        yield* this.#findStale(areaOffset, at + taken);
        return false;
      }
    }
    return true;
  }

  /** The bytes of the piece up to the end of the list. */
  #takeTuples(): number {
    const view = this.#view;
    for (let at = 0; at < this.#buffer.length; at += TUPLE_BYTES) {
      const newLow = view.getUint32(at + 8, true);
      const newHigh = view.getUint32(at + 12, true);
      if (newLow === 0 && newHigh === 0) return at;
      if (this.olds.length === this.#limit) {
        this.isTooLong = true;
        return at;
      }
      this.olds.push(view.getUint32(at + 4, true) * UINT32_VALUES + view.getUint32(at, true));
      this.news.push(newHigh * UINT32_VALUES + newLow);
      if (newHigh > this.#highestHigh || (newHigh === this.#highestHigh && newLow > this.#highestLow)) {
        this.#highestHigh = newHigh;
        this.#highestLow = newLow;
      }
    }
    return this.#buffer.length;
  }

  /** Examines the area after the end of the list, which is at `end`; the piece with the end is in the buffer. */
  *#findStale(areaOffset: number, end: number): Generator<number, void> {
    const { chunkBytes } = this.#geometry;
    const size = this.#buffer.length;
    const first = Math.floor(end / size) * size;
    for (let at = first; at < chunkBytes; at += size) {
      // A hole needs no reading: the last area of a store with large chunks is mostly one.
      if (at > first) {
        if (isHole(this.#source, areaOffset + at, areaOffset + at + size)) continue;
        readZeroFilled(this.#source, this.#buffer, areaOffset + at);
        this.#bytesRead += size;
        yield this.#bytesRead;
      }
      if (isZero(this.#buffer, Math.max(0, end - at))) continue;
      this.stale = { offset: areaOffset + end, length: chunkBytes - end };
      return;
    }
  }
}

function isHole(source: ByteSource, from: number, to: number): boolean {
  for (const _ of source.dataExtents(from, to)) return false;
  return true;
}

/** Has the kernel no space for one more exception? The last one of an area needs the next area to exist, too. */
export function looksFull({ geometry, sectors, chunks, nextFree, olds, areas }: StoreScan): boolean {
  if ((nextFree + 1n) * BigInt(geometry.chunkSectors) > BigInt(sectors)) return true;
  const fillsArea = (olds.length + 1) % geometry.perArea === 0;
  return fillsArea && areaChunk(geometry, areas) >= chunks;
}

/** Can `chunk` hold an exception's data? */
export function isDataChunk(scan: Pick<StoreScan, "geometry" | "chunks">, chunk: number): boolean {
  return chunk < scan.chunks && !isMetadataChunk(scan.geometry, chunk);
}
