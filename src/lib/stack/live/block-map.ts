/**
 * Owns a bitmap of blocks that stays in memory, shared by every thread that serves an image: bit b is block b, LSB first,
 * as on disk. Block numbers may exceed 32 bits, so nothing here shifts a block number.
 */

import { countBits } from "../../bytes/bitmap.ts";
import type { Shared } from "../../bytes/shared.ts";

export class BlockMap {
  readonly blockCount: number;
  readonly bytes: Shared<Uint8Array>;
  readonly #words: Int32Array;

  /** @param bytes a multiple of 4, at least `blockCount` bits */
  constructor(bytes: Shared<Uint8Array>, blockCount: number) {
    this.blockCount = blockCount;
    this.bytes = bytes;
    this.#words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  }

  has(block: number): boolean {
    return (((this.bytes[Math.floor(block / 8)] ?? 0) >>> (block & 7)) & 1) === 1;
  }

  /**
   * The end of the run of bits equal to that of `block`, at most `limit`. Another thread may be allocating blocks
   * meanwhile: so the bit is read only once.
   * @param marked what has(block) returned
   */
  runEnd(block: number, limit: number, marked: boolean): number {
    const whole = marked ? 0xff : 0;
    const wholeWord = marked ? -1 : 0;
    let at = block + 1;
    while (at < limit) {
      if ((at & 31) === 0 && at + 32 <= limit && this.#words[at / 32] === wholeWord) {
        at += 32;
        continue;
      }
      const byte = this.bytes[Math.floor(at / 8)] ?? 0;
      if ((at & 7) === 0 && at + 8 <= limit && byte === whole) at += 8;
      else if ((((byte >>> (at & 7)) & 1) === 1) === marked) at++;
      else return at;
    }
    return limit;
  }

  /** Appends the runs of unallocated blocks in `[from, to)` to `bounds`: first block and end of each. */
  clearRuns(from: number, to: number, bounds: number[]): void {
    for (let at = from; at < to; ) {
      const marked = this.has(at);
      const end = this.runEnd(at, to, marked);
      if (!marked) bounds.push(at, end);
      at = end;
    }
  }

  /** Sets or clears the bits of `[from, to)`. The caller excludes other writers of the same bytes. */
  assign(from: number, to: number, marked: boolean): void {
    let at = from;
    while (at < to && (at & 7) !== 0) this.#assignOne(at++, marked);
    const wholeEnd = to - (to & 7);
    if (wholeEnd > at) {
      this.bytes.fill(marked ? 0xff : 0, at / 8, wholeEnd / 8);
      at = wholeEnd;
    }
    while (at < to) this.#assignOne(at++, marked);
  }

  #assignOne(block: number, marked: boolean): void {
    const index = Math.floor(block / 8);
    const mask = 1 << (block & 7);
    const old = this.bytes[index] ?? 0;
    this.bytes[index] = marked ? old | mask : old & ~mask;
  }

  /** Set bits in `[fromByte, toByte)` of the bitmap. */
  countIn(fromByte: number, toByte: number): number {
    return countBits(this.bytes.subarray(fromByte, toByte));
  }
}
