/**
 * Proves the test for zeros: one byte anywhere in or beside a range, in ranges longer than what is compared at once.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { isZero } from "../../../src/lib/bytes/zero.ts";

const LENGTH = (2 << 20) + 100;
const bytes = new Uint8Array(LENGTH);

test("all zeros are zeros, and so is nothing at all", () => {
  expect(isZero(bytes)).toBe(true);
  expect(isZero(new Uint8Array(0))).toBe(true);
  expect(isZero(bytes, 5, 5)).toBe(true);
});

test("a single byte counts where it lies in the range, and nowhere else", () => {
  const borders = [0, 7, 8, 9, 1 << 20, (1 << 20) + 8, (2 << 20) + 8, LENGTH - 1].flatMap((at) => [at - 1, at, at + 1]);
  const place = fc.oneof(fc.constantFrom(...borders.filter((at) => at >= 0 && at < LENGTH)), fc.nat(LENGTH - 1));
  fc.assert(
    fc.property(place, place, fc.integer({ min: 0, max: LENGTH }), (at, start, end) => {
      bytes[at] = 1;
      const found = !isZero(bytes, start, end);
      bytes[at] = 0;
      expect(found).toBe(start <= at && at < end);
    }),
    { numRuns: 300 },
  );
  for (const at of borders.filter((border) => border >= 0 && border < LENGTH)) {
    bytes[at] = 0x80;
    expect(isZero(bytes)).toBe(false);
    bytes[at] = 0;
  }
});
