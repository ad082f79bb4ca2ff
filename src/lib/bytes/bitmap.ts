/**
 * Owns operations on bitmaps held as bytes, bit b in byte b>>3 at position b&7 (LSB first), 32 bits at a time.
 * Reading words as little-endian keeps that numbering on any host. Knows nothing of files or formats.
 */

import { isZero } from "./zero.ts";

const STRETCH_BITS = 4096;
const STRETCH_BYTES = STRETCH_BITS / 8;

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function popcount32(word: number): number {
  let v = word - ((word >>> 1) & 0x55555555);
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return (((v + (v >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}

/** The number of set bits. */
export function countBits(bytes: Uint8Array): number {
  const words = view(bytes);
  const wholeBytes = bytes.length & ~3;
  let count = 0;
  for (let start = 0; start < wholeBytes; start += STRETCH_BYTES) {
    const end = Math.min(wholeBytes, start + STRETCH_BYTES);
    // Most bitmaps are mostly zero: whole stretches are skipped in native code.
    if (isZero(bytes, start, end)) continue;
    for (let i = start; i < end; i += 4) {
      const word = words.getUint32(i, true);
      if (word !== 0) count += popcount32(word);
    }
  }
  for (let i = wholeBytes; i < bytes.length; i++) count += popcount32(bytes[i] ?? 0);
  return count;
}

export function testBit(bytes: Uint8Array, bit: number): boolean {
  return (((bytes[bit >>> 3] ?? 0) >>> (bit & 7)) & 1) === 1;
}

/** The first bit in `[from, to)` that equals `wanted`, or `to`. */
function nextBit(bytes: Uint8Array, words: DataView, from: number, to: number, wanted: boolean): number {
  const flip = wanted ? 0 : -1;
  let bit = from;
  while (bit < to) {
    const wordStart = bit & ~31;
    const byteStart = wordStart >>> 3;
    // Most bitmaps are mostly zero: native code skips long runs of zeros.
    if (
      wanted &&
      bit % STRETCH_BITS === 0 &&
      bit + STRETCH_BITS <= to &&
      isZero(bytes, byteStart, byteStart + STRETCH_BYTES)
    ) {
      bit += STRETCH_BITS;
      continue;
    }
    let word: number;
    if (byteStart + 4 <= bytes.length) word = words.getInt32(byteStart, true);
    else {
      word = 0;
      for (let i = 0; byteStart + i < bytes.length; i++) word |= (bytes[byteStart + i] ?? 0) << (8 * i);
    }
    word = (word ^ flip) & (-1 << (bit & 31));
    if (word !== 0) return Math.min(to, wordStart + 31 - Math.clz32(word & -word));
    bit = wordStart + 32;
  }
  return to;
}

type Runs = Generator<readonly [start: number, end: number]>;

function* runs(bytes: Uint8Array, from: number, to: number, wanted: boolean): Runs {
  const words = view(bytes);
  for (let bit = nextBit(bytes, words, from, to, wanted); bit < to; ) {
    const end = nextBit(bytes, words, bit, to, !wanted);
    yield [bit, end];
    bit = nextBit(bytes, words, end, to, wanted);
  }
}

/** The runs of set bits in `[from, to)` as `[start, end)` pairs, ascending. */
export function setRuns(bytes: Uint8Array, from: number, to: number): Runs {
  return runs(bytes, from, to, true);
}

/** The runs of clear bits in `[from, to)`, likewise. */
export function clearRuns(bytes: Uint8Array, from: number, to: number): Runs {
  return runs(bytes, from, to, false);
}

function fillRange(bytes: Uint8Array, from: number, to: number, value: boolean): void {
  if (from >= to) return;
  const apply = (index: number, mask: number): void => {
    const old = bytes[index] ?? 0;
    bytes[index] = value ? old | mask : old & ~mask;
  };
  const first = from >>> 3;
  const last = (to - 1) >>> 3;
  const firstMask = (0xff << (from & 7)) & 0xff;
  const lastMask = 0xff >>> (7 - ((to - 1) & 7));
  if (first === last) {
    apply(first, firstMask & lastMask);
    return;
  }
  apply(first, firstMask);
  bytes.fill(value ? 0xff : 0, first + 1, last);
  apply(last, lastMask);
}

/** Sets every bit of `[from, to)`. */
export function setRange(bytes: Uint8Array, from: number, to: number): void {
  fillRange(bytes, from, to, true);
}

/** Clears every bit of `[from, to)`. */
export function clearRange(bytes: Uint8Array, from: number, to: number): void {
  fillRange(bytes, from, to, false);
}
