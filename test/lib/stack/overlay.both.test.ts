/**
 * Proves stacks of layers as one device: any piece read through up to three cowfiles is the model's, what is said to hold
 * data holds all of it, and images that are dense, not sparse, are compared and merged across every border of a buffer.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { create, merge, nodeStorage, openStack, parseStack, repair } from "../../../src/lib/index.ts";
import {
  BLOCK,
  imageBytes,
  leastDataOffset,
  naiveFingerprint,
  sameBytes,
  writeCowfile,
} from "../../support/images/driver-model.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const scratch = scratchDirectory();
const rdo = scratch("rdo.img");
const BLOCKS = 40;

/** A block of this byte but for one, so that it counts in a fingerprint with this very sum. */
function filled(byte: number): Uint8Array {
  return new Uint8Array(BLOCK).fill(byte).fill(2 * byte, 500, 501);
}

/** Blocks a layer holds, each filled with a byte; zeros count as well. */
const layer = fc.uniqueArray(fc.tuple(fc.nat(BLOCKS - 1), fc.nat(255)), { selector: ([b]) => b, maxLength: 20 });
const baseImage = fc.tuple(layer, fc.constantFrom(0, 100, 1023));

/** Writes each layer as a cowfile over what lies below it. Returns the stack and its content. */
function build(
  base: Buffer,
  layers: readonly (readonly (readonly [number, number])[])[],
): { text: string; content: Buffer } {
  writeFileSync(rdo, base);
  let content = base.subarray(0, BLOCKS * BLOCK);
  const paths = layers.map((held, i) => {
    const path = scratch(`layer${i}.cow`);
    const blocks = new Map(held.map(([b, byte]) => [b, filled(byte)]));
    const bits = new Set(blocks.keys());
    const fingerprint = naiveFingerprint(content);
    const dataOffset = leastDataOffset(BLOCKS) + i * 1000;
    writeCowfile(path, {
      abi: "le64",
      flags: 0,
      rdoBlocks: BLOCKS,
      dataOffset,
      fingerprint,
      used: bits.size,
      bits,
      blocks,
    });
    content = Buffer.from(content);
    for (const [b, bytes] of blocks) content.set(bytes, b * BLOCK);
    return path;
  });
  return { text: [rdo, ...paths].join(","), content };
}

describe("a stack", () => {
  const pieces = fc.array(fc.tuple(fc.nat(BLOCKS * BLOCK), fc.oneof(fc.nat(3), fc.nat(5000), fc.nat(50_000))), {
    minLength: 5,
  });

  test("reads as the model, at any offset and length, up to its end and behind it", async () => {
    await fc.assert(
      fc.asyncProperty(baseImage, fc.array(layer, { maxLength: 3 }), pieces, async ([blocks, tail], layers, reads) => {
        const base = imageBytes({
          blockCount: BLOCKS,
          blocks: new Map(blocks.map(([b, byte]) => [b, filled(byte)])),
          tail: Buffer.alloc(tail, 0x77),
        });
        const { text, content } = build(base, layers);
        const { device, close, layers: opened, paths } = await openStack(nodeStorage, text);
        expect([opened.length, paths.length]).toEqual([layers.length, layers.length + 1]);
        // Above the base, what is less than a block at its end is no part of the image.
        const whole = layers.length === 0 ? base : content;
        expect(device.sizeBytes).toBe(whole.length);
        for (const [offset, length] of reads) {
          const target = Buffer.alloc(length, 0xee);
          const got = device.read(target, offset);
          const expected = whole.subarray(offset, offset + length);
          expect(got).toBe(expected.length);
          expect(sameBytes(target.subarray(0, got), expected)).toBe(true);
          expect(target.subarray(got).every((byte) => byte === 0xee)).toBe(true);
        }
        const covered = Buffer.alloc(whole.length);
        let end = 0;
        for (const extent of device.dataExtents(0, device.sizeBytes)) {
          expect(extent.offset).toBeGreaterThanOrEqual(end);
          end = extent.offset + extent.length;
          whole.copy(covered, extent.offset, extent.offset, end);
        }
        expect(sameBytes(covered, whole)).toBe(true);
        close();
      }),
      { numRuns: 60 },
    );
  });

  test("cannot be written to", async () => {
    const { text } = build(Buffer.alloc(BLOCKS * BLOCK, 1), [[[0, 1]]]);
    const { device, close } = await openStack(nodeStorage, text);
    expect(() => device.write(new Uint8Array(1), 0)).toThrow(expect.objectContaining({ code: "permission" }));
    expect(() => device.resize(1)).toThrow(expect.objectContaining({ code: "permission" }));
    expect(device.punchHole(0, 1)).toBe(false);
    close();
  });

  test("is refused where a layer lies over another one than it was made for", async () => {
    const image = imageBytes({ blockCount: BLOCKS, blocks: new Map([[0, filled(1)]]), tail: Buffer.of() });
    const { text } = build(image, [[[0, 7]], [[1, 8]]]);
    const [base, first, second] = parseStack(text);
    await expect(openStack(nodeStorage, `${base},${second}`)).rejects.toMatchObject({
      code: "wrong-base",
      file: second,
    });
    await expect(openStack(nodeStorage, `${base},${second},${first}`)).rejects.toMatchObject({ code: "wrong-base" });
    // Nothing stays locked behind a refusal.
    await merge(base ?? "", first ?? "", {}, {});
  });

  test.each([
    ["a", ["a"]],
    ["a,b,c", ["a", "b", "c"]],
    ["a\\,b,c", ["a,b", "c"]],
    ["\\,", [","]],
    ["a\\b,c\\\\", ["a\\b", "c\\\\"]],
    ["/x y/ü,b", ["/x y/ü", "b"]],
  ])("%j names %j", (text, names) => expect(parseStack(text)).toEqual(names));

  test.each(["", ",", "a,", ",a", "a,,b", Array.from({ length: 66 }, () => "x").join(",")])(
    "%j names nothing",
    (text) => {
      expect(() => parseStack(text)).toThrow(expect.objectContaining({ code: "usage" }));
    },
  );
});

describe("a dense image", () => {
  const COUNT = 4 * 1024 + 300;
  const PLACES = [0, 255, 256, 257, 1023, 1024, 1025, 2047, 2048, 3000, 3071, 3072, 4095, 4096, COUNT - 1];
  const base = Buffer.alloc(COUNT * BLOCK);
  for (let at = 0; at < base.length; at++) base[at] = (at * 7 + (at >> 10)) & 0xff;

  test("is compared, repaired and merged across the borders of every buffer", async () => {
    const changed = Buffer.from(base);
    for (const b of PLACES)
      changed[b * BLOCK + (b % 2 ? 0 : BLOCK - 1)] = (changed[b * BLOCK + (b % 2 ? 0 : BLOCK - 1)] ?? 0) ^ 1;
    const [img, cow, out] = [scratch("changed.img"), scratch("dense.cow"), scratch("out.img")];
    for (const path of [cow, out]) rmSync(path, { force: true });
    writeFileSync(rdo, base);
    writeFileSync(img, changed);
    expect((await create(rdo, cow, { from: img }, {})).blocks_used).toBe(PLACES.length);
    await merge(rdo, cow, { output: out }, {});
    expect(sameBytes(readFileSync(out), changed)).toBe(true);

    // All blocks there, none marked: repair finds each of them, whole buffers full.
    const blocks = new Map(Array.from({ length: COUNT }, (_, b) => [b, changed.subarray(b * BLOCK, (b + 1) * BLOCK)]));
    const dataOffset = leastDataOffset(COUNT);
    const fingerprint = naiveFingerprint(base);
    const bits = new Set(PLACES);
    writeCowfile(cow, { abi: "le32", flags: 1, rdoBlocks: COUNT, dataOffset, fingerprint, used: 0, bits, blocks });
    expect(await repair(cow, {}, {})).toMatchObject({ blocksUsed: COUNT });
    expect(await merge(rdo, cow, {}, {})).toMatchObject({ blocks_merged: COUNT });
    expect(sameBytes(readFileSync(rdo), changed)).toBe(true);
    expect(await merge(rdo, cow, {}, {})).toMatchObject({ already_merged: true });
  });
});
