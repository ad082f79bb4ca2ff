/**
 * Proves the head's codec on four ABIs: known bytes, round trips with everything around the struct preserved, and that
 * one head is never taken for another ABI's.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { storedFingerprint } from "../../../src/lib/formats/cowfile/head.ts";
import {
  ABI_NAMES,
  type CowAbi,
  CowError,
  type CowHead,
  decodeHead,
  detectAbi,
  encodeHead,
  headLayout,
  newHeadBlock,
} from "../../../src/lib/index.ts";
import { headBytes, mapBytesFor } from "../../support/images/driver-model.ts";

/** The same file as four machines wrote it: formats/cowfile.md §1. */
const KNOWN: Record<CowAbi, string> = {
  le64: "7f434f57 0100 0000 0004000000000000 0004000000000000 0010000000000000 0900000000000000 102030c0ffffffff 0000000000000000",
  le32: "7f434f57 0100 0000 00040000 00040000 00100000 09000000 102030c0 00000000",
  be64: "574f437f 0001 0000 0000000000000400 0000000000000400 0000000000001000 0000000000000009 ffffffffc0302010 0000000000000000",
  be32: "574f437f 0001 0000 00000400 00000400 00001000 00000009 c0302010 00000000",
};

const knownBytes = (abi: CowAbi): Buffer => Buffer.from(KNOWN[abi].replaceAll(" ", ""), "hex");

const word = (abi: CowAbi): fc.Arbitrary<bigint> =>
  fc.bigInt({ min: 0n, max: abi.endsWith("64") ? 2n ** 64n - 1n : 2n ** 32n - 1n });

/** Any head that can be told from another ABI's. */
const head: fc.Arbitrary<CowHead> = fc.constantFrom(...ABI_NAMES).chain((abi) =>
  fc.record({
    abi: fc.constant(abi),
    version: fc.integer({ min: -0x8000, max: 0x7fff }),
    flags: fc.nat(0xffff),
    mapUnit: fc.constant(1024n),
    mapSize: abi.endsWith("64") ? word(abi) : fc.integer({ min: 1, max: 2 ** 22 - 1 }).map((n) => BigInt(n) * 1024n),
    dataOffset: word(abi),
    rdoBlocks: word(abi),
    fingerprint: word(abi),
    used: word(abi),
  }),
);

describe("the head", () => {
  test.each(ABI_NAMES)("%s: the known bytes are decoded, encoded, and detected", (abi) => {
    const bytes = knownBytes(abi);
    expect(detectAbi(bytes)).toBe(abi);
    const decoded = decodeHead(bytes, "file");
    expect(decoded).toEqual({
      abi,
      version: 1,
      flags: 0,
      mapUnit: 1024n,
      mapSize: 1024n,
      dataOffset: 4096n,
      rdoBlocks: 9n,
      fingerprint: storedFingerprint(abi, 0xc0302010),
      used: 0n,
    });
    expect(headLayout(abi).sizeBytes).toBe(bytes.length);
    const block = newHeadBlock(decoded);
    expect(block.length).toBe(1024);
    expect(Buffer.from(block)).toEqual(Buffer.concat([bytes, Buffer.alloc(1024 - bytes.length)]));
  });

  test("what is encoded is decoded; bytes behind the struct, and around the block, stay", () => {
    fc.assert(
      fc.property(head, fc.nat(255), fc.nat(9), (value, filler, shift) => {
        const buffer = new Uint8Array(1100).fill(filler);
        const length = encodeHead(value, buffer.subarray(shift, shift + 1024));
        expect(length).toBe(headLayout(value.abi).sizeBytes);
        expect(decodeHead(buffer.subarray(shift, shift + 1024), "file")).toEqual(value);
        buffer.fill(filler, shift, shift + length);
        expect(buffer.every((byte) => byte === filler)).toBe(true);
      }),
    );
  });

  test("it is what an independent writer makes of the same values", () => {
    const values = fc.record({
      abi: fc.constantFrom(...ABI_NAMES),
      flags: fc.nat(3),
      rdoBlocks: fc.integer({ min: 1, max: 2 ** 32 - 8 }),
      dataOffset: fc.nat(2 ** 31 - 1),
      fingerprint: fc.nat(2 ** 32 - 1),
      used: fc.nat(2 ** 31 - 1),
    });
    fc.assert(
      fc.property(values, (v) => {
        const block = newHeadBlock({
          abi: v.abi,
          version: 1,
          flags: v.flags,
          mapUnit: 1024n,
          mapSize: BigInt(mapBytesFor(v.rdoBlocks)),
          dataOffset: BigInt(v.dataOffset),
          rdoBlocks: BigInt(v.rdoBlocks),
          fingerprint: storedFingerprint(v.abi, v.fingerprint),
          used: BigInt(v.used),
        });
        const theirs = headBytes({ ...v, bits: new Set(), blocks: new Map() });
        expect(Buffer.from(block.subarray(0, theirs.length))).toEqual(theirs);
      }),
    );
  });
});

describe("detection of the ABI", () => {
  /** The rule of formats/cowfile.md §1, said once more in other words: each ABI that a head could be of. */
  function candidates(bytes: Buffer): CowAbi[] {
    const found: CowAbi[] = [];
    const magic = bytes.toString("hex", 0, 4);
    if (magic === "7f434f57" && bytes.readBigUInt64LE(8) === 1024n) found.push("le64");
    if (magic === "574f437f" && bytes.readBigUInt64BE(8) === 1024n) found.push("be64");
    const fits = (unit: number, map: number): boolean => unit === 1024 && map !== 0 && map % 1024 === 0;
    if (magic === "7f434f57" && fits(bytes.readUInt32LE(8), bytes.readUInt32LE(12))) found.push("le32");
    if (magic === "574f437f" && fits(bytes.readUInt32BE(8), bytes.readUInt32BE(12))) found.push("be32");
    return found;
  }

  test("never more than one ABI fits, and that one is found, in heads with any bytes changed", () => {
    const change = fc.array(fc.tuple(fc.nat(55), fc.oneof(fc.constantFrom(0, 4, 8, 0xff), fc.nat(255))), {
      maxLength: 4,
    });
    fc.assert(
      fc.property(fc.constantFrom(...ABI_NAMES), change, (abi, changes) => {
        const bytes = Buffer.concat([knownBytes(abi), Buffer.alloc(24)]).subarray(0, 56);
        for (const [at, value] of changes) bytes[at] = value;
        const fitting = candidates(bytes);
        expect(fitting.length).toBeLessThan(2);
        expect(detectAbi(bytes)).toBe(fitting[0]);
      }),
      { numRuns: 1000 },
    );
  });

  test.each(["7f434f57", "574f437f"])("magic %s: every pair of the words that tell the width", (magic) => {
    const words = [0, 1, 4, 1023, 1024, 1025, 2048, 0x40000, 0x400_0000, 0xffff_fc00, 0xffff_ffff];
    for (const unit of words)
      for (const map of words) {
        const bytes = Buffer.alloc(56);
        bytes.write(magic, "hex");
        if (magic.startsWith("7f")) bytes.writeUInt32LE(map, bytes.writeUInt32LE(unit, 8));
        else bytes.writeUInt32BE(map, bytes.writeUInt32BE(unit, 8));
        const fitting = candidates(bytes);
        expect(fitting.length).toBeLessThan(2);
        expect(detectAbi(bytes)).toBe(fitting[0]);
      }
  });

  test("a head of one width is not one of the other, whatever its values", () => {
    fc.assert(fc.property(head, (value) => detectAbi(newHeadBlock(value)) === value.abi));
  });

  test.each(ABI_NAMES)("%s: whatever is shorter than the struct is refused as truncated or no cowfile", (abi) => {
    const bytes = knownBytes(abi);
    for (let length = 0; length < bytes.length; length++) {
      const decode = (): CowHead => decodeHead(bytes.subarray(0, length), "some.cow");
      expect(decode).toThrow(CowError);
      const code = length < 4 ? "bad-head" : "truncated";
      expect(decode).toThrow(expect.objectContaining({ code, file: "some.cow" }));
    }
  });

  test("any 64 bytes decode, or are refused by name", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.constantFrom("", "7f434f57", "574f437f"), (bytes, magic) => {
        const block = Buffer.concat([Buffer.from(magic, "hex"), bytes]);
        try {
          decodeHead(block, "some.cow");
        } catch (error) {
          expect(error).toBeInstanceOf(CowError);
          expect(error).toMatchObject({ file: "some.cow" });
        }
      }),
    );
  });
});
