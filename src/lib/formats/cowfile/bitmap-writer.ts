/**
 * Owns writing the bitmap of a new cowfile: a window at a time, ascending, leaving holes where nothing is allocated.
 */
import { clearRange, setRange } from "../../bytes/bitmap.ts";
import { type ByteTarget, readZeroFilled } from "../../bytes/byte-source.ts";
import { isZero } from "../../bytes/zero.ts";
import { WINDOW_BLOCKS, WINDOW_BYTES } from "./bitmap-windows.ts";
import { BITMAP_OFFSET_BYTES } from "./layout.ts";

/** The unit of writing, so that the rest of a window stays a hole. */
const CHUNK_BYTES = 4096;

export class WindowedBitmapWriter {
  readonly #target: ByteTarget;
  readonly #mapSizeBytes: number;
  readonly #offset: number;
  readonly #bytes = new Uint8Array(WINDOW_BYTES);
  #index = 0;
  #changed = false;
  marked = 0;

  /** @param offset where the bitmap begins in the file */
  constructor(target: ByteTarget, mapSizeBytes: number, offset: number = BITMAP_OFFSET_BYTES) {
    this.#target = target;
    this.#offset = offset;
    this.#mapSizeBytes = mapSizeBytes;
  }

  /** Allocates blocks `[from, to)`, which must not come before earlier ones. */
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

  /** Writes everything that is only in memory, and keeps it; a later writer begins with `resume`. */
  checkpoint(): void {
    this.#write();
  }

  /** Resumes after `marked` blocks that were allocated below `block`; bits from there on are cleared. */
  resume(block: number, marked: number): void {
    this.marked = marked;
    this.#index = Math.floor(block / WINDOW_BLOCKS);
    const start = this.#index * WINDOW_BYTES;
    const end = Math.min(WINDOW_BYTES, this.#mapSizeBytes - start);
    readZeroFilled(this.#target, this.#bytes.subarray(0, end), this.#offset + start);
    clearRange(this.#bytes, block - this.#index * WINDOW_BLOCKS, WINDOW_BLOCKS);
    this.#changed = true;
    // The byte with the block's bit may hold earlier bits: it is written with these, the rest cleared.
    const byte = Math.floor((block % WINDOW_BLOCKS) / 8);
    if (byte < end) this.#target.write(this.#bytes.subarray(byte, byte + 1), this.#offset + start + byte);
    this.#clear(start + byte + 1);
  }

  /** Zeros the bitmap on disk from a byte on. */
  #clear(from: number): void {
    const zeros = new Uint8Array(WINDOW_BYTES);
    const end = this.#offset + this.#mapSizeBytes;
    for (const { offset, length } of this.#target.dataExtents(this.#offset + from, end)) {
      for (let at = offset; at < offset + length; at += zeros.length)
        this.#target.write(zeros.subarray(0, Math.min(zeros.length, offset + length - at)), at);
    }
  }

  #flush(nextIndex: number): void {
    this.#write();
    if (this.#changed) this.#bytes.fill(0);
    this.#changed = false;
    this.#index = nextIndex;
  }

  #write(): void {
    const start = this.#index * WINDOW_BYTES;
    const end = Math.min(WINDOW_BYTES, this.#mapSizeBytes - start);
    for (let at = 0; this.#changed && at < end; at += CHUNK_BYTES) {
      const chunk = this.#bytes.subarray(at, Math.min(end, at + CHUNK_BYTES));
      if (!isZero(chunk)) this.#target.write(chunk, this.#offset + start + at);
    }
  }
}
