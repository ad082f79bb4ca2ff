/**
 * Proves the judgement of a head's values: what makes a head unusable, what is only noted, and that a geometry which is
 * let pass is within the file and within what numbers hold exactly.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { judgeHead, requireGeometry } from "../../../src/lib/formats/cowfile/geometry.ts";
import { maxBlocks } from "../../../src/lib/formats/cowfile/layout.ts";
import { ABI_NAMES, COW_PROBLEMS, type CowAbi, CowError, type CowHead } from "../../../src/lib/index.ts";
import { leastDataOffset, mapBytesFor } from "../../support/images/driver-model.ts";

const FILE = "some.cow";

function headOf(rdoBlocks: number, changes: Partial<CowHead> = {}): CowHead {
  return {
    abi: "le64",
    version: 1,
    flags: 0,
    mapUnit: 1024n,
    mapSize: BigInt(mapBytesFor(rdoBlocks)),
    dataOffset: BigInt(leastDataOffset(rdoBlocks)),
    rdoBlocks: BigInt(rdoBlocks),
    fingerprint: 0n,
    used: 0n,
    ...changes,
  };
}

function idsOf(head: CowHead, fileSize = Number.MAX_SAFE_INTEGER): string[] {
  return judgeHead(head, fileSize, FILE).problems.map(({ id }) => id);
}

const blocks = fc.oneof(fc.integer({ min: 1, max: 100_000 }), fc.integer({ min: 1, max: 2 ** 32 - 8 }));
const boundaries = [1, 8192, 8193, 24576, 24577, 32769, 57344, 57345, 67108865];

describe("a head in order", () => {
  test("has no problem, and the geometry that an independent formula gives", () => {
    fc.assert(
      fc.property(fc.oneof(blocks, fc.constantFrom(...boundaries)), fc.constantFrom(...ABI_NAMES), (rdoBlocks, abi) => {
        const judged = judgeHead(headOf(rdoBlocks, { abi }), 1024 + mapBytesFor(rdoBlocks), FILE);
        expect(judged.problems).toEqual([]);
        expect(judged.geometry).toEqual({
          rdoBlocks,
          virtualSizeBytes: rdoBlocks * 1024,
          mapSizeBytes: mapBytesFor(rdoBlocks),
          dataOffsetBytes: leastDataOffset(rdoBlocks),
        });
      }),
    );
  });

  test("D10: any offset of the data area behind the bitmap is taken as it is", () => {
    fc.assert(
      fc.property(blocks, fc.nat(2 ** 40), (rdoBlocks, gap) => {
        const dataOffset = 1024 + mapBytesFor(rdoBlocks) + gap;
        const { geometry, problems } = judgeHead(headOf(rdoBlocks, { dataOffset: BigInt(dataOffset) }), 2 ** 50, FILE);
        expect([geometry?.dataOffsetBytes, problems]).toEqual([dataOffset, []]);
      }),
    );
  });
});

describe("a head that is usable, but wrong", () => {
  test.each<[string, Partial<CowHead>]>([
    ["version-low", { version: 0 }],
    ["version-low", { version: -32768 }],
    ["unknown-flags", { flags: 4 }],
    ["unknown-flags", { flags: 0x8000 }],
    ["map-size", { mapSize: 2048n }],
    ["map-size", { mapSize: 0n }],
    ["map-size", { mapSize: 2n ** 64n - 1n }],
    ["fingerprint-extension", { fingerprint: 0x9c030201n }],
    ["fingerprint-extension", { fingerprint: 0xffffffff0c030201n }],
  ])("%s is a problem of the table, and no hindrance", (id, changes) => {
    const judged = judgeHead(headOf(100, changes), 4096, FILE);
    expect(judged.problems.map((problem) => problem.id)).toEqual([id]);
    expect(judged.geometry).toEqual(judgeHead(headOf(100), 4096, FILE).geometry);
    for (const { severity, message, offset, length } of judged.problems) {
      expect(severity).toBe(COW_PROBLEMS[id as keyof typeof COW_PROBLEMS].severity);
      expect(message).toMatch(/^[a-z].* byte \d+ \(0x[0-9a-f]+\)$/);
      expect(offset + length).toBeLessThanOrEqual(56);
    }
  });

  test("dirty and packed are states, not unknown flags", () => expect(idsOf(headOf(100, { flags: 3 }))).toEqual([]));
});

describe("a head beyond use", () => {
  test.each<[string, string, Partial<CowHead>]>([
    ["block-count", "damaged", { rdoBlocks: 0n }],
    ["block-count", "damaged", { rdoBlocks: BigInt(maxBlocks("le64")) + 1n }],
    ["block-count", "damaged", { rdoBlocks: 2n ** 53n }],
    ["block-count", "damaged", { rdoBlocks: 2n ** 64n - 1n }],
    ["block-count", "damaged", { abi: "le32", rdoBlocks: 2n ** 32n - 7n }],
    ["data-offset", "damaged", { dataOffset: 0n }],
    ["data-offset", "damaged", { dataOffset: 2047n }],
    ["data-offset", "damaged", { dataOffset: 2n ** 53n }],
    ["data-offset", "damaged", { dataOffset: 2n ** 63n }],
    ["data-offset", "damaged", { dataOffset: 2n ** 64n - 1n }],
    ["bitmap-truncated", "truncated", { rdoBlocks: 2n ** 31n }],
    ["bitmap-truncated", "truncated", { rdoBlocks: 8193n }],
  ])("%s stops everything, as an error of code %s: %o", (id, code, changes) => {
    const judged = judgeHead({ ...headOf(100), dataOffset: 2n ** 40n, ...changes }, 2048, FILE);
    expect(judged.geometry).toBeUndefined();
    expect(judged.problems.map((problem) => problem.id)).toContain(id);
    const failing = expect.objectContaining({ code, file: FILE, details: expect.objectContaining({ problem: id }) });
    expect(() => requireGeometry(judged, FILE)).toThrow(CowError);
    expect(() => requireGeometry(judged, FILE)).toThrow(failing);
  });

  test.each([2, 3, 0x7fff])("version %i is not known, and nothing is guessed of it", (version) => {
    expect(() => judgeHead(headOf(100, { version }), 4096, FILE)).toThrow(
      expect.objectContaining({ code: "unsupported", file: FILE }),
    );
  });

  test("a file is long enough from the end of its bitmap on", () => {
    const rdoBlocks = 8193;
    const end = 1024 + 2048;
    expect(judgeHead(headOf(rdoBlocks), end, FILE).geometry).toBeDefined();
    const short = judgeHead(headOf(rdoBlocks), end - 1, FILE);
    expect(short.geometry).toBeUndefined();
    expect(short.problems).toMatchObject([{ id: "bitmap-truncated", offset: end - 1, length: 1 }]);
  });
});

test("whatever the values: no other exception, and a geometry that stays within the file and below 2^53", () => {
  const edge = [
    0n,
    1n,
    1024n,
    2n ** 31n,
    2n ** 32n - 1n,
    2n ** 32n,
    2n ** 53n - 1n,
    2n ** 53n,
    2n ** 63n,
    2n ** 64n - 1n,
  ];
  const word = fc.oneof(
    fc.constantFrom(...edge),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    fc.bigInt({ min: 0n, max: 10_000n }),
  );
  const short = (abi: CowAbi) => (value: bigint) => (abi.endsWith("64") ? value : BigInt.asUintN(32, value));
  const head: fc.Arbitrary<CowHead> = fc.constantFrom(...ABI_NAMES).chain((abi) => {
    const field = word.map(short(abi));
    return fc.record({
      abi: fc.constant(abi),
      version: fc.integer({ min: -0x8000, max: 1 }),
      flags: fc.nat(0xffff),
      mapUnit: field,
      mapSize: field,
      dataOffset: field,
      rdoBlocks: field,
      fingerprint: field,
      used: field,
    });
  });
  fc.assert(
    fc.property(head, fc.oneof(fc.nat(100_000), fc.maxSafeNat()), (value, fileSize) => {
      const { geometry, problems } = judgeHead(value, fileSize, FILE);
      for (const { id } of problems) expect(Object.keys(COW_PROBLEMS)).toContain(id);
      if (!geometry) {
        expect(problems.some(({ severity, fixable }) => severity === "error" && !fixable)).toBe(true);
        return;
      }
      expect(1024 + geometry.mapSizeBytes).toBeLessThanOrEqual(fileSize);
      expect(geometry.dataOffsetBytes).toBeGreaterThanOrEqual(1024 + geometry.mapSizeBytes);
      expect(Number.isSafeInteger(geometry.dataOffsetBytes + geometry.virtualSizeBytes)).toBe(true);
      expect(geometry.rdoBlocks).toBeGreaterThan(0);
    }),
    { numRuns: 1000 },
  );
});
