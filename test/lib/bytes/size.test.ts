/**
 * Proves which sizes are accepted from people (conventions.md §1) and what they mean, and how sizes are shown.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CowError, formatSize, parseSize } from "../../../src/lib/index.ts";

const K = 1024;

describe("parseSize", () => {
  test.each([
    ["0", 0],
    ["1", 1],
    ["0007", 7],
    ["4096", 4096],
    ["512b", 512],
    ["512B", 512],
    ["3s", 1536],
    ["3S", 1536],
    ["64k", 64 * K],
    ["64K", 64 * K],
    ["64KiB", 64 * K],
    ["64kib", 64 * K],
    ["1m", K ** 2],
    ["8GiB", 8 * K ** 3],
    ["2T", 2 * K ** 4],
    ["1p", K ** 5],
    ["7E", undefined],
    ["1PiB", K ** 5],
    ["9007199254740991", 2 ** 53 - 1],
    ["7p", 7 * K ** 5],
  ])("%s is %s bytes", (text, bytes) => {
    if (bytes === undefined) expect(() => parseSize(text)).toThrow(/too large/);
    else expect(parseSize(text)).toBe(bytes);
  });

  test.each([
    ["", "nothing"],
    [" 1", "a space before"],
    ["1 ", "a space behind"],
    ["1 k", "a space between"],
    ["1\n", "a line feed"],
    ["KB", "no digits"],
    ["k", "no digits"],
    ["1KB", "1000 or 1024?"],
    ["1kb", "1000 or 1024?"],
    ["1MB", "1000 or 1024?"],
    ["1ki", "half a unit"],
    ["1ib", "no unit"],
    ["1bib", "no unit"],
    ["1sib", "no unit"],
    ["1.5M", "a fraction"],
    ["1,5M", "a fraction"],
    [".5", "a fraction"],
    ["-1", "a sign"],
    ["+1", "a sign"],
    ["0x10", "hex"],
    ["1e3", "an exponent"],
    ["1_000", "a separator"],
    ["1z", "an unknown unit"],
    ["1y", "an unknown unit"],
    ["١", "digits of another script"],
    ["1\u212a", "the Kelvin sign"],
    ["9007199254740992", "2^53"],
    ["8p", "2^53"],
    ["16777216t", "overflow"],
    ["99999999999999999999999999", "overflow"],
    ["18014398509481984s", "overflow"],
  ])("%j is refused: %s", (text) => {
    expect(() => parseSize(text)).toThrow(CowError);
    expect(() => parseSize(text)).toThrow(expect.objectContaining({ code: "usage" }));
  });

  test("a number and its unit multiply exactly, up to 2^53-1 and no further", () => {
    const units = ["", "k", "m", "g", "t", "p", "e"];
    const text = fc.tuple(fc.bigInt({ min: 0n, max: 1n << 60n }), fc.nat(6), fc.constantFrom("", "ib", "iB", "IB"));
    fc.assert(
      fc.property(text, ([digits, power, suffix]) => {
        const bytes = digits * 1024n ** BigInt(power);
        const written = `${digits}${units[power]}${power === 0 ? "" : suffix}`;
        if (bytes <= BigInt(Number.MAX_SAFE_INTEGER)) expect(parseSize(written)).toBe(Number(bytes));
        else expect(() => parseSize(written)).toThrow(/too large/);
      }),
    );
  });
});

describe("formatSize", () => {
  test.each([
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1024 (1 KiB)"],
    [1536, "1536 (1.5 KiB)"],
    [1048576, "1048576 (1 MiB)"],
    [8 * K ** 3, "8589934592 (8 GiB)"],
    [K ** 5, "1125899906842624 (1 PiB)"],
  ])("%i is shown as %s, the exact figure first", (bytes, text) => expect(formatSize(bytes)).toBe(text));

  test("what is shown first is read back as the same size", () => {
    fc.assert(fc.property(fc.maxSafeNat(), (bytes) => parseSize(formatSize(bytes).split(" ")[0] ?? "") === bytes));
  });
});
