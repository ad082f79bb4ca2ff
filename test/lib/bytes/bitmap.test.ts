/**
 * Proves the bitmap's word-wise operations against an array of booleans, at every length, alignment and range.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { clearRange, clearRuns, countBits, setRange, setRuns, testBit } from "../../../src/lib/bytes/bitmap.ts";

type Run = readonly [number, number];

/** Bytes at an odd place in their buffer, as parts of a window are. Mostly runs, as real bitmaps hold. */
const bitmap: fc.Arbitrary<Uint8Array> = fc
  .tuple(fc.array(fc.oneof(fc.constant(0), fc.constant(0xff), fc.nat(255)), { maxLength: 40 }), fc.nat(7))
  .map(([bytes, shift]) => {
    const buffer = new Uint8Array(bytes.length + shift + 3).fill(0xa5);
    buffer.set(bytes, shift);
    return buffer.subarray(shift, shift + bytes.length);
  });

const bitmapAndRange = bitmap.chain((bytes) =>
  fc.tuple(fc.constant(bytes), fc.nat(bytes.length * 8), fc.nat(bytes.length * 8)),
);

/** Bit b of a bitmap is bit b%8 of byte b/8, least significant first. */
function bitsOf(bytes: Uint8Array): boolean[] {
  return [...bytes].flatMap((byte) => [...byte.toString(2).padStart(8, "0")].reverse().map((bit) => bit === "1"));
}

function naiveRuns(bits: readonly boolean[], from: number, to: number, wanted: boolean): Run[] {
  const runs: [number, number][] = [];
  for (let bit = from; bit < to; bit++) {
    if (bits[bit] !== wanted) continue;
    const last = runs.at(-1);
    if (last?.[1] === bit) last[1]++;
    else runs.push([bit, bit + 1]);
  }
  return runs;
}

describe("bitmap", () => {
  test("the first bit of a byte is its least significant one", () => {
    expect(testBit(Uint8Array.of(0, 1), 8)).toBe(true);
    expect(testBit(Uint8Array.of(0, 0x80), 15)).toBe(true);
    expect([...setRuns(Uint8Array.of(0x0e), 0, 8)]).toEqual([[1, 4]]);
  });

  test("every bit is read as the model reads it, and none behind the end is set", () => {
    fc.assert(
      fc.property(bitmap, (bytes) => {
        expect(bitsOf(bytes).map((_, bit) => testBit(bytes, bit))).toEqual(bitsOf(bytes));
        expect(testBit(bytes, bytes.length * 8)).toBe(false);
      }),
    );
  });

  test("counting is counting", () => {
    fc.assert(fc.property(bitmap, (bytes) => countBits(bytes) === bitsOf(bytes).filter(Boolean).length));
    for (let word = 0; word < 256; word++)
      expect(countBits(new Uint8Array(7).fill(word))).toBe(7 * bitsOf(Uint8Array.of(word)).filter(Boolean).length);
  });

  test("runs of set and of clear bits are the model's, in any range", () => {
    fc.assert(
      fc.property(bitmapAndRange, ([bytes, from, to]) => {
        expect([...setRuns(bytes, from, to)]).toEqual(naiveRuns(bitsOf(bytes), from, to, true));
        expect([...clearRuns(bytes, from, to)]).toEqual(naiveRuns(bitsOf(bytes), from, to, false));
      }),
      { numRuns: 500 },
    );
  });

  test("setting and clearing a range changes these bits, no other, and nothing beside the bitmap", () => {
    fc.assert(
      fc.property(bitmapAndRange, fc.boolean(), ([bytes, from, to], value) => {
        const before = Uint8Array.from(new Uint8Array(bytes.buffer));
        const expected = bitsOf(bytes).map((bit, i) => (i >= from && i < to ? value : bit));
        (value ? setRange : clearRange)(bytes, from, to);
        expect(bitsOf(bytes)).toEqual(expected);
        const after = new Uint8Array(bytes.buffer);
        before.set(bytes, bytes.byteOffset);
        expect(after).toEqual(before);
      }),
      { numRuns: 500 },
    );
  });

  test("runs may be cleared while they are listed", () => {
    fc.assert(
      fc.property(bitmap, (bytes) => {
        const expected = naiveRuns(bitsOf(bytes), 0, bytes.length * 8, true);
        const seen: Run[] = [];
        for (const run of setRuns(bytes, 0, bytes.length * 8)) {
          seen.push(run);
          clearRange(bytes, ...run);
        }
        expect(seen).toEqual(expected);
        expect(countBits(bytes)).toBe(0);
      }),
    );
  });
});
