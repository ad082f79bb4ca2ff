/**
 * Proves the fingerprint against a naive implementation (formats/cowfile.md §2): any content, holes, blocks whose bytes
 * sum to a multiple of 256, ends within a block, the sign; and that blocks can be replaced by what is known of them.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  blockSum,
  type Contribution,
  fingerprintOf,
  takeFingerprint as takeWithOverride,
} from "../../../src/lib/formats/cowfile/fingerprint.ts";
import { formatFingerprint, storedFingerprint } from "../../../src/lib/formats/cowfile/head.ts";
import { FileDevice, MemoryDevice, SparseBytes, takeFingerprint } from "../../../src/lib/index.ts";
import { BLOCK, naiveFingerprint, writeSparse } from "../../support/images/driver-model.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const scratch = scratchDirectory();

/** A block by what it adds: nothing, though it may hold something, or a sum. */
const block: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.constant(new Uint8Array(BLOCK)),
  fc.nat(1000).map((at) => new Uint8Array(BLOCK).fill(1, at, at + 1).fill(255, at + 1, at + 2)),
  fc.constant(new Uint8Array(BLOCK).fill(0x80)),
  fc.tuple(fc.nat(1023), fc.integer({ min: 1, max: 255 })).map(([at, sum]) => {
    const bytes = new Uint8Array(BLOCK);
    bytes[at] = sum;
    return bytes;
  }),
  fc.constant(new Uint8Array(BLOCK).fill(0xff)),
  fc.uint8Array({ minLength: BLOCK, maxLength: BLOCK }),
);

const image = fc
  .tuple(fc.array(block, { maxLength: 12 }), fc.constantFrom(0, 1, 512, 1023))
  .map(([blocks, tail]) => Buffer.concat([...blocks, Buffer.alloc(tail, 0x33)]));

function memory(bytes: Uint8Array): MemoryDevice {
  return new MemoryDevice("memory", SparseBytes.from(bytes), false);
}

function naiveContributions(bytes: Uint8Array): Contribution[] {
  const found: Contribution[] = [];
  for (let b = 0; (b + 1) * BLOCK <= bytes.length && found.length < 4; b++) {
    const sum = bytes.subarray(b * BLOCK, (b + 1) * BLOCK).reduce((total, byte) => total + byte, 0) % 256;
    if (sum !== 0) found.push({ block: b, sum });
  }
  return found;
}

describe("fingerprint", () => {
  test("data is looked for no further than needed, and found wherever it is", async () => {
    const bytes = new Uint8Array(6 << 20);
    for (const at of [0, 256 << 10, (768 << 10) - 1, 5 << 20]) bytes.fill(7, at, at + 3);
    const device = memory(bytes);
    expect((await takeFingerprint(device, 6 << 10)).value).toBe(naiveFingerprint(bytes));
    let asked = 0;
    const odd = Uint8Array.from({ length: 6 << 20 }, (_, i) => (i % BLOCK === 5 ? 1 : 0));
    const dense = Object.assign(memory(odd), {
      *dataExtents(from: number, to: number) {
        for (let at = from; at < to; at += BLOCK, asked++) yield { offset: at, length: BLOCK };
      },
    });
    await takeFingerprint(dense, 6 << 10);
    expect(asked).toBeLessThanOrEqual(256);
  });

  test.each([
    [[1, 2, 3, 4], 0x04030201, "0x04030201"],
    [[1, 2, 3, 0x9c], 0x9c030201, "0x9c030201"],
    [[0xe5], 0xe5, "0x000000e5"],
    [[0xf1, 0, 0xf2], 0xf2f1, "0x0000f2f1"],
    [[0, 0, 0], 0, "0x00000000"],
    [[0, 255, 0, 1, 0, 2, 0, 128, 5], 0x800201ff, "0x800201ff"],
  ])("blocks that sum to %j have %i", async (sums, value, shown) => {
    const bytes = new Uint8Array(sums.length * BLOCK);
    for (const [b, sum] of sums.entries()) bytes[b * BLOCK + b] = sum;
    expect((await takeFingerprint(memory(bytes), sums.length)).value).toBe(value);
    expect(formatFingerprint(value)).toBe(shown);
  });

  test("is what the naive implementation says, and names the blocks that it is made of", async () => {
    await fc.assert(
      fc.asyncProperty(image, async (bytes) => {
        const taken = await takeFingerprint(memory(bytes), Math.floor(bytes.length / BLOCK));
        expect(taken.value).toBe(naiveFingerprint(bytes));
        expect(taken.contributions).toEqual(naiveContributions(bytes));
        expect(fingerprintOf(taken.contributions)).toBe(taken.value);
      }),
    );
  });

  test("blocks behind the number asked for, or behind the end, add nothing", async () => {
    await fc.assert(
      fc.asyncProperty(image, fc.nat(15), async (bytes, blocks) => {
        const { value } = await takeFingerprint(memory(bytes), blocks);
        expect(value).toBe(naiveFingerprint(bytes.subarray(0, blocks * BLOCK)));
      }),
    );
  });

  test("holes add nothing, wherever the file system puts their borders", async () => {
    const place = fc.tuple(fc.nat(3000), fc.nat(1023), fc.integer({ min: 1, max: 255 }));
    await fc.assert(
      fc.asyncProperty(fc.array(place, { maxLength: 8 }), async (places) => {
        const [path, size] = [scratch("sparse.img"), 3001 * BLOCK];
        const whole = Buffer.alloc(size);
        for (const [b, at, byte] of places) whole[b * BLOCK + at] = byte;
        const parts = places.map(
          ([b, at]) => [b * BLOCK + at, whole.subarray(b * BLOCK + at, b * BLOCK + at + 1)] as const,
        );
        writeSparse(path, size, parts);
        const device = FileDevice.open(path);
        const { value } = await takeFingerprint(device, 3001);
        device.close();
        expect(value).toBe(naiveFingerprint(whole));
      }),
      { numRuns: 30 },
    );
  });

  test("the sum of a block is its bytes mod 256", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: BLOCK, maxLength: BLOCK }), fc.nat(3), (bytes, before) => {
        const buffer = Buffer.concat([Buffer.alloc(before, 0xff), bytes, Buffer.alloc(5, 0xff)]);
        return blockSum(buffer, before) === bytes.reduce((sum, byte) => (sum + byte) % 256, 0);
      }),
    );
    expect(blockSum(new Uint8Array(BLOCK).fill(255), 0)).toBe(0);
  });

  test("D12: 64-bit machines store it sign-extended, 32-bit ones as it is", () => {
    expect(storedFingerprint("le64", 0x9c030201)).toBe(0xffffffff9c030201n);
    expect(storedFingerprint("be64", 0x7fff0180)).toBe(0x7fff0180n);
    expect(storedFingerprint("be32", 0x9c030201)).toBe(0x9c030201n);
    fc.assert(
      fc.property(fc.nat(2 ** 32 - 1), (value) => {
        expect(storedFingerprint("le64", value)).toBe(BigInt.asUintN(64, BigInt.asIntN(32, BigInt(value))));
        expect(storedFingerprint("le32", value)).toBe(BigInt(value));
      }),
    );
  });

  test("of overwritten blocks only what was known of them counts: the fingerprint is the one from before", async () => {
    const scene = fc.tuple(fc.array(block, { minLength: 1, maxLength: 10 }), fc.array(fc.tuple(fc.nat(9), block)));
    await fc.assert(
      fc.asyncProperty(scene, async ([blocks, changes]) => {
        const before = Buffer.concat(blocks);
        const after = Buffer.from(before);
        const changed = changes.filter(([b]) => b < blocks.length);
        for (const [b, bytes] of changed) after.set(bytes, b * BLOCK);
        const overridden = new Set(changed.map(([b]) => b));
        const first = await takeFingerprint(memory(before), blocks.length);
        const override = {
          isOverridden: (b: number) => overridden.has(b),
          contributions: first.contributions.filter(({ block: b }) => overridden.has(b)),
        };
        const again = await takeWithOverride(memory(after), blocks.length, { override });
        // Four are enough to know it by; with fewer every block of the base has been asked.
        expect(again.value).toBe(first.value);
      }),
    );
  });

  test("an AbortSignal stops a long one", async () => {
    const path = scratch("long.img");
    writeSparse(path, 64 << 20, [[0, new Uint8Array(1)]]);
    const device = FileDevice.open(path);
    const taken = takeFingerprint(device, 65536, { signal: AbortSignal.abort() });
    await expect(taken).rejects.toMatchObject({ code: "interrupted", file: path });
    device.close();
  });
});
