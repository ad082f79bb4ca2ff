/**
 * Owns writing new dm-snapshot stores: one exception a chunk, in the order of the image, without holes. The header
 * comes last: an incomplete file is not a store.
 */
import type { ByteTarget } from "../../bytes/byte-source.ts";
import { CowError } from "../../errors.ts";
import type { Destination, ImageWriter, WriterState, WrittenFormat } from "../image-writer.ts";
import { ChunkColumn } from "./chunk-column.ts";
import { encodeHeader } from "./header.ts";
import {
  chunksNeeded,
  DEFAULT_CHUNK_SECTORS,
  dataChunk,
  isChunkSectors,
  MAX_CHUNK_SECTORS,
  SECTOR_BYTES,
  type StoreGeometry,
  storeGeometry,
} from "./layout.ts";
import { writeTuples, writeZeros, zeroTuples } from "./tuples.ts";

/** Tuples that are collected and written together. */
const MOST_WAITING = 1 << 16;

/** @throws CowError `usage` unless the kernel would take that chunk size */
export function requireGeometry(chunkSectors: number): StoreGeometry {
  if (isChunkSectors(chunkSectors)) return storeGeometry(chunkSectors);
  throw new CowError(
    "usage",
    `a chunk size of ${chunkSectors} sectors is not possible: it has to be a power of two from 1 to ${MAX_CHUNK_SECTORS} sectors`,
  );
}

/** Zeros the rest of the header's chunk, then makes it a store; both durable. */
function seal(target: ByteTarget, { chunkSectors, chunkBytes }: StoreGeometry): void {
  const header = encodeHeader({ valid: 1, chunkSectors });
  writeZeros(target, header.length, chunkBytes);
  target.flush();
  target.write(header, 0);
  target.flush();
}

export class DmSnapshotWriter implements ImageWriter {
  readonly unitBytes: number;
  readonly #target: ByteTarget;
  readonly #geometry: StoreGeometry;
  readonly #roomBytes: number;
  readonly #waiting = new ChunkColumn();
  #written = 0;

  /**
   * @param target an empty file, or one to resume
   * @param roomFor bytes of changes that the sparse file has space for; default: those it holds
   */
  constructor(target: ByteTarget, geometry: StoreGeometry, roomFor = 0) {
    this.unitBytes = geometry.chunkBytes;
    this.#target = target;
    this.#geometry = geometry;
    this.#roomBytes = chunksNeeded(geometry, Math.ceil(roomFor / geometry.chunkBytes)) * geometry.chunkBytes;
  }

  get exceptions(): number {
    return this.#written + this.#waiting.length;
  }

  *data(offset: number, length: number): Generator<Destination> {
    const { chunkBytes, perArea } = this.#geometry;
    for (let at = offset; at < offset + length; ) {
      const index = this.exceptions;
      const left = Math.ceil((offset + length - at) / chunkBytes);
      // An area of tuples is between the data of one area and that of the next.
      const inRow = Math.min(left, perArea - (index % perArea));
      for (let i = 0; i < inRow; i++) this.#waiting.push(at / chunkBytes + i);
      const stop = Math.min(offset + length, at + inRow * chunkBytes);
      yield { offset: at, length: stop - at, at: dataChunk(this.#geometry, index) * chunkBytes };
      at = stop;
      if (this.#waiting.length >= MOST_WAITING) this.#writeTuples();
    }
  }

  /** A chunk of zeros is a chunk like any other; in a new file a hole. */
  zeros(offset: number, length: number): void {
    for (const _ of this.data(offset, length));
  }

  checkpoint(): WriterState {
    this.#writeTuples();
    return { exceptions: this.#written };
  }

  resume(_offset: number, state: WriterState): void {
    this.#written = state["exceptions"] ?? 0;
    const { perArea, chunkBytes } = this.#geometry;
    // Data written beyond that may be incomplete.
    const end = this.#written === 0 ? 0 : (dataChunk(this.#geometry, this.#written - 1) + 1) * chunkBytes;
    this.#target.resize(end);
    if (this.#written > 0) zeroTuples(this.#target, this.#geometry, this.#written, Math.ceil(this.#written / perArea));
  }

  finish(): void {
    this.#writeTuples();
    const needed = chunksNeeded(this.#geometry, this.#written) * this.#geometry.chunkBytes;
    // Unwritten parts of a new file are zero, and so is the end of the list.
    this.#target.resize(Math.max(needed, this.#roomBytes, this.#target.sizeBytes));
    seal(this.#target, this.#geometry);
  }

  #writeTuples(): void {
    const [waiting, first] = [this.#waiting, this.#written];
    writeTuples(this.#target, this.#geometry, first, {
      length: waiting.length,
      oldAt: (index) => waiting.at(index),
      newAt: (index) => dataChunk(this.#geometry, first + index),
    });
    this.#written += waiting.length;
    waiting.truncate(0);
  }
}

export const dmSnapshotWritten: WrittenFormat<"dm-snapshot"> = {
  id: "dm-snapshot",
  base: "required",
  sizeUnitBytes: SECTOR_BYTES,
  options: ["chunkBytes"],
  layout({ replacedUnits, chunkBytes = exactChunk(replacedUnits) }) {
    const geometry = requireGeometry(chunkBytes / SECTOR_BYTES);
    return { granularityBytes: chunkBytes, makeWriter: (target) => new DmSnapshotWriter(target, geometry) };
  },
};

/** The chunk size that holds exactly extents of such units; without any, the kernel's default. */
function exactChunk(units: readonly number[]): number {
  const least = Math.min(...units, MAX_CHUNK_SECTORS * SECTOR_BYTES);
  const isPossible = units.length > 0 && least >= SECTOR_BYTES && Number.isInteger(Math.log2(least));
  return isPossible ? least : DEFAULT_CHUNK_SECTORS * SECTOR_BYTES;
}
