/**
 * Owns making new stores: empty ones as the kernel makes them, and whole ones from the extents of a layer. The header
 * comes last: what is not complete is no store.
 */
import type { ByteTarget } from "../../bytes/byte-source.ts";
import { type Extent, widen } from "../../bytes/extent.ts";
import { isZero } from "../../bytes/zero.ts";
import { interrupted, makeBreath } from "../../context.ts";
import { CowError } from "../../errors.ts";
import type { SurveyHooks } from "../format.ts";
import { ChunkColumn } from "./chunk-column.ts";
import { encodeHeader } from "./header.ts";
import {
  chunksNeeded,
  dataChunk,
  isChunkSectors,
  MAX_CHUNK_SECTORS,
  type StoreGeometry,
  storeGeometry,
} from "./layout.ts";
import { writeTuples, zeroTuples } from "./tuples.ts";
import { writeZeros } from "./write-zeros.ts";

const PIECE_BYTES = 1 << 20;
/** Zeros shorter than this are written with the data around them. */
const HOLE_BYTES = 1 << 16;

/** @throws CowError `usage` unless the kernel would take that chunk size */
export function requireGeometry(chunkSectors: number): StoreGeometry {
  if (isChunkSectors(chunkSectors)) return storeGeometry(chunkSectors);
  throw new CowError(
    "usage",
    `a chunk size of ${chunkSectors} sectors is not possible: it has to be a power of two from 1 to ${MAX_CHUNK_SECTORS} sectors`,
  );
}

/** Zeros the rest of the header's chunk, then makes it a store; both durable. */
function seal(target: ByteTarget, geometry: StoreGeometry): void {
  const header = encodeHeader({ valid: 1, chunkSectors: geometry.chunkSectors });
  writeZeros(target, header.length, geometry.chunkBytes);
  target.flush();
  target.write(header, 0);
  target.flush();
}

/**
 * Makes an empty store of all of `target`, as a kernel does that finds a zeroed device: header, and zeros in area 0. Other
 * chunks stay as they are. A target that is too short for that is made longer.
 *
 * @throws CowError `usage`, `io`, `no-space`
 */
export function createStore(target: ByteTarget, { chunkSectors }: { readonly chunkSectors: number }): void {
  const geometry = requireGeometry(chunkSectors);
  const needed = chunksNeeded(geometry, 0) * geometry.chunkBytes;
  if (target.sizeBytes < needed) target.resize(needed);
  zeroTuples(target, geometry, 0, 1);
  seal(target, geometry);
}

/** What a new store is to hold. */
export interface StoreContent {
  /** Of the image. */
  readonly sizeBytes: number;
  /** The parts to hold, ascending and disjoint; asked for twice. */
  readonly extents: () => Iterable<Extent>;
  /** Reads the image: these parts, and what is around them up to the limits of chunks. */
  readonly read: (target: Uint8Array, offset: number) => void;
}

export interface WriteStoreOptions {
  readonly chunkSectors: number;
  /** The least size of the file: what is more than needed is room for further exceptions. */
  readonly storeBytes?: number | undefined;
}

export interface WrittenStore {
  readonly exceptions: number;
  readonly storeBytes: number;
}

/** The bytes of the smallest store that holds these extents. */
export function storeBytesFor(chunkSectors: number, extents: Iterable<Extent>, imageBytes: number): number {
  const geometry = requireGeometry(chunkSectors);
  return chunksNeeded(geometry, countChunks(geometry, extents, imageBytes)) * geometry.chunkBytes;
}

function countChunks({ chunkBytes }: StoreGeometry, extents: Iterable<Extent>, imageBytes: number): number {
  let chunks = 0;
  for (const { length } of widen(extents, chunkBytes, imageBytes)) chunks += Math.ceil(length / chunkBytes);
  return chunks;
}

/**
 * Writes a whole store: each part rounded up to chunks, in the order of the image, without holes between the chunks. An
 * empty target stays sparse where the data is zero; of any other what is in the way is overwritten.
 *
 * @throws CowError `usage`, `no-space` (a target that can't grow, before anything is written), `io`, `interrupted`
 */
export async function writeStore(
  target: ByteTarget,
  content: StoreContent,
  options: WriteStoreOptions,
  hooks: SurveyHooks,
): Promise<WrittenStore> {
  const geometry = requireGeometry(options.chunkSectors);
  const count = countChunks(geometry, content.extents(), content.sizeBytes);
  const storeBytes = Math.max(chunksNeeded(geometry, count) * geometry.chunkBytes, options.storeBytes ?? 0);
  const isBlank = target.sizeBytes === 0;
  if (storeBytes > target.sizeBytes) target.resize(storeBytes);
  // Whatever store this was is none while its chunks are overwritten.
  writeZeros(target, 0, geometry.chunkBytes);
  if (!isBlank) target.flush();
  const writer = new StoreWriter(target, geometry, content, isBlank);
  const breath = makeBreath();
  for (const { offset, length } of widen(content.extents(), geometry.chunkBytes, content.sizeBytes)) {
    if (length === 0) continue;
    const end = Math.ceil((offset + length) / geometry.chunkBytes);
    for (let old = offset / geometry.chunkBytes; old < end; ) {
      for (const copied of writer.takeRun(old, end - old)) {
        old += copied;
        hooks.onProgress?.({
          phase: "writing",
          done: writer.exceptions * geometry.chunkBytes,
          total: count * geometry.chunkBytes,
          unit: "bytes",
        });
        if (hooks.signal?.aborted) throw interrupted(target.name, "the store is not complete, and none yet");
        await breath();
      }
    }
  }
  writer.finish();
  seal(target, geometry);
  return { exceptions: writer.exceptions, storeBytes: target.sizeBytes };
}

class StoreWriter {
  readonly #target: ByteTarget;
  readonly #geometry: StoreGeometry;
  readonly #content: StoreContent;
  readonly #isBlank: boolean;
  readonly #buffer = new Uint8Array(PIECE_BYTES);
  /** Old chunks whose tuples are still to be written. */
  #waiting = new ChunkColumn();
  #written = 0;

  constructor(target: ByteTarget, geometry: StoreGeometry, content: StoreContent, isBlank: boolean) {
    this.#target = target;
    this.#geometry = geometry;
    this.#content = content;
    this.#isBlank = isBlank;
  }

  get exceptions(): number {
    return this.#written + this.#waiting.length;
  }

  /** Copies up to `count` chunks from `old` on, as far as they come to lie in a row. Yields the chunks done, or 0 within one. */
  *takeRun(old: number, count: number): Generator<number> {
    const { chunkBytes, perArea } = this.#geometry;
    const index = this.exceptions;
    const inRow = Math.min(count, perArea - (index % perArea), Math.max(1, Math.floor(PIECE_BYTES / chunkBytes)));
    const to = dataChunk(this.#geometry, index) * chunkBytes;
    const from = old * chunkBytes;
    const length = inRow * chunkBytes;
    for (let done = 0; done < length; done += PIECE_BYTES) {
      this.#copy(from + done, to + done, Math.min(PIECE_BYTES, length - done));
      if (done + PIECE_BYTES < length) yield 0;
    }
    for (let i = 0; i < inRow; i++) this.#waiting.push(old + i);
    if (this.exceptions % perArea === 0 || this.#waiting.length >= PIECE_BYTES / 16) this.#writeTuples();
    yield inRow;
  }

  #copy(from: number, to: number, length: number): void {
    const inImage = Math.max(0, Math.min(length, this.#content.sizeBytes - from));
    const piece = this.#buffer.subarray(0, length);
    this.#content.read(piece.subarray(0, inImage), from);
    // A chunk that reaches beyond the image has zeros there, where a kernel leaves what was there.
    piece.fill(0, inImage);
    if (!this.#isBlank) {
      this.#target.write(piece, to);
      return;
    }
    let start = -1;
    for (let at = 0; at < length; at += HOLE_BYTES) {
      const zero = isZero(piece, at, Math.min(length, at + HOLE_BYTES));
      if (!zero && start < 0) start = at;
      if (zero && start >= 0) {
        this.#target.write(piece.subarray(start, at), to + start);
        start = -1;
      }
    }
    if (start >= 0) this.#target.write(piece.subarray(start), to + start);
  }

  #writeTuples(): void {
    const waiting = this.#waiting;
    const first = this.#written;
    writeTuples(this.#target, this.#geometry, first, {
      length: waiting.length,
      oldAt: (index) => waiting.at(index),
      newAt: (index) => dataChunk(this.#geometry, first + index),
    });
    this.#written += waiting.length;
    waiting.truncate(0);
  }

  /** Writes what is left of the list, and its end. */
  finish(): void {
    this.#writeTuples();
    const { perArea } = this.#geometry;
    zeroTuples(this.#target, this.#geometry, this.#written, Math.floor(this.#written / perArea) + 1);
  }
}
