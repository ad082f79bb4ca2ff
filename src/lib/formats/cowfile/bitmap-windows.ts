/**
 * Owns access to a cowfile's bitmap a window at a time, so that memory stays the same for a bitmap of 1 KiB and one of
 * 128 MiB, and windows that are holes are never read.
 */
import { countBits, setRuns } from "../../bytes/bitmap.ts";
import type { ByteSource } from "../../bytes/byte-source.ts";
import type { Extent } from "../../bytes/extent.ts";
import type { CowGeometry } from "./geometry.ts";
import { BITMAP_OFFSET_BYTES, BLOCK_BYTES } from "./layout.ts";

/** Bytes of bitmap in a window: the bits of 512 MiB of image. */
export const WINDOW_BYTES = 64 * 1024;
export const WINDOW_BLOCKS = WINDOW_BYTES * 8;
const CACHED_WINDOWS = 4;
/** A pause follows after this many windows. */
const PAUSE_WINDOWS = 16;

/** A part of the bitmap in memory. `bytes` is never overwritten, so several windows can be used in turn. */
export interface BitmapWindow {
  readonly index: number;
  /** The block of its first bit. */
  readonly firstBlock: number;
  readonly bytes: Uint8Array;
}

/** Reads windows of one bitmap, and remembers the last few. */
export class BitmapReader {
  readonly #source: ByteSource;
  readonly #geometry: CowGeometry;
  readonly #cached: BitmapWindow[] = [];

  constructor(source: ByteSource, geometry: CowGeometry) {
    this.#source = source;
    this.#geometry = geometry;
  }

  get windowCount(): number {
    return Math.ceil(this.#geometry.mapSizeBytes / WINDOW_BYTES);
  }

  /** How long a buffer for readWindow must be. */
  get windowBytes(): number {
    return Math.min(WINDOW_BYTES, this.#geometry.mapSizeBytes);
  }

  /**
   * Reads one window into the caller's buffer, for walks over all windows: a buffer for each would be
   * garbage that is collected late.
   */
  readWindow(index: number, buffer: Uint8Array): BitmapWindow {
    const start = index * WINDOW_BYTES;
    const bytes = buffer.subarray(0, Math.min(WINDOW_BYTES, this.#geometry.mapSizeBytes - start));
    bytes.fill(0, this.#source.read(bytes, BITMAP_OFFSET_BYTES + start));
    return { index, firstBlock: index * WINDOW_BLOCKS, bytes };
  }

  /** Reads one window, or returns a recently read one. */
  window(index: number): BitmapWindow {
    const cached = this.#cached.find((window) => window.index === index);
    if (cached) return cached;
    const window = this.readWindow(index, new Uint8Array(this.windowBytes));
    this.#cached.unshift(window);
    if (this.#cached.length > CACHED_WINDOWS) this.#cached.pop();
    return window;
  }

  /** The windows in `[from, to)` that are not holes, ascending. */
  *nonHoleIndexes(from = 0, to = this.windowCount): Generator<number> {
    let next = from;
    const end = BITMAP_OFFSET_BYTES + Math.min(to * WINDOW_BYTES, this.#geometry.mapSizeBytes);
    for (const { offset, length } of this.#source.dataExtents(BITMAP_OFFSET_BYTES + from * WINDOW_BYTES, end)) {
      const first = Math.floor((offset - BITMAP_OFFSET_BYTES) / WINDOW_BYTES);
      const last = Math.ceil((offset + length - BITMAP_OFFSET_BYTES) / WINDOW_BYTES);
      for (let index = Math.max(first, next); index < last; index++) {
        yield index;
        next = index + 1;
      }
    }
  }

  /** How many blocks of `[fromBlock, toBlock)` are allocated; fast, however scattered they are. */
  countMarked(fromBlock: number, toBlock: number): number {
    let count = 0;
    const buffer = new Uint8Array(this.windowBytes);
    const lastWindow = Math.ceil(toBlock / WINDOW_BLOCKS);
    for (const index of this.nonHoleIndexes(Math.floor(fromBlock / WINDOW_BLOCKS), lastWindow)) {
      const { bytes, firstBlock } = this.readWindow(index, buffer);
      const from = Math.max(0, fromBlock - firstBlock);
      const to = Math.min(bytes.length * 8, toBlock - firstBlock);
      if (from === 0 && to === bytes.length * 8) count += countBits(bytes);
      else for (const [start, end] of setRuns(bytes, from, to)) count += end - start;
    }
    return count;
  }

  /** The runs of allocated blocks in `[fromBlock, toBlock)`, as extents in bytes of the image, joined across windows. */
  *markedExtents(fromBlock: number, toBlock: number): Generator<Extent> {
    let start = -1;
    let end = -1;
    const firstWindow = Math.floor(fromBlock / WINDOW_BLOCKS);
    const lastWindow = Math.ceil(toBlock / WINDOW_BLOCKS);
    const buffer = lastWindow - firstWindow > CACHED_WINDOWS ? new Uint8Array(this.windowBytes) : undefined;
    let seen = 0;
    for (const index of this.nonHoleIndexes(firstWindow, lastWindow)) {
      if (++seen % PAUSE_WINDOWS === 0)
        yield { offset: (start >= 0 ? start : index * WINDOW_BLOCKS) * BLOCK_BYTES, length: 0 };
      const { bytes, firstBlock } = buffer ? this.readWindow(index, buffer) : this.window(index);
      const from = Math.max(0, fromBlock - firstBlock);
      const to = Math.min(bytes.length * 8, toBlock - firstBlock);
      for (const [runStart, runEnd] of setRuns(bytes, from, to)) {
        if (firstBlock + runStart !== end) {
          if (start >= 0) yield { offset: start * BLOCK_BYTES, length: (end - start) * BLOCK_BYTES };
          start = firstBlock + runStart;
        }
        end = firstBlock + runEnd;
      }
    }
    if (start >= 0) yield { offset: start * BLOCK_BYTES, length: (end - start) * BLOCK_BYTES };
  }
}
