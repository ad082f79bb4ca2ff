/**
 * Owns writing the bitmap of a new cowfile: a window at a time, ascending, leaving holes where nothing is marked.
 */
import { setRange } from "../../bytes/bitmap.ts";
import type { ByteTarget } from "../../bytes/byte-source.ts";
import { isZero } from "../../bytes/zero.ts";
import { WINDOW_BLOCKS, WINDOW_BYTES } from "./bitmap-windows.ts";
import { BITMAP_OFFSET_BYTES } from "./layout.ts";

/** What is written at once, so that the rest of a window stays a hole. */
const CHUNK_BYTES = 4096;

export class WindowedBitmapWriter {
  readonly #target: ByteTarget;
  readonly #mapSizeBytes: number;
  readonly #bytes = new Uint8Array(WINDOW_BYTES);
  #index = 0;
  #changed = false;
  marked = 0;

  constructor(target: ByteTarget, mapSizeBytes: number) {
    this.#target = target;
    this.#mapSizeBytes = mapSizeBytes;
  }

  /** Marks blocks `[from, to)`, which must not lie before any marked so far. */
  mark(from: number, to: number): void {
    this.marked += to - from;
    for (let at = from; at < to; ) {
      const index = Math.floor(at / WINDOW_BLOCKS);
      if (index !== this.#index) this.#flush(index);
      const stop = Math.min(to, (index + 1) * WINDOW_BLOCKS);
      setRange(this.#bytes, at - index * WINDOW_BLOCKS, stop - index * WINDOW_BLOCKS);
      this.#changed = true;
      at = stop;
    }
  }

  finish(): void {
    this.#flush(this.#index);
  }

  #flush(nextIndex: number): void {
    const start = this.#index * WINDOW_BYTES;
    const end = Math.min(WINDOW_BYTES, this.#mapSizeBytes - start);
    for (let at = 0; this.#changed && at < end; at += CHUNK_BYTES) {
      const chunk = this.#bytes.subarray(at, Math.min(end, at + CHUNK_BYTES));
      if (!isZero(chunk)) this.#target.write(chunk, BITMAP_OFFSET_BYTES + start + at);
    }
    if (this.#changed) this.#bytes.fill(0);
    this.#changed = false;
    this.#index = nextIndex;
  }
}
