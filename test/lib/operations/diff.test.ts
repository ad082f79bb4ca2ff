/**
 * Proves that diff finds exactly the blocks that differ, between stacks, images and cowfiles by themselves, names what is
 * redundant, never reads what no layer holds, and that its delta turns A into B.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { create, type DiffResult, diff, MemoryStorage, merge } from "../../../src/lib/index.ts";

const BLOCK = 1024;
const BLOCKS = 40;

/** One byte value a block. */
function image(values: readonly number[], tail = 0): Uint8Array {
  const bytes = new Uint8Array(values.length * BLOCK + tail);
  for (const [block, value] of values.entries()) {
    bytes.fill(value, block * BLOCK, (block + 1) * BLOCK);
    // 1024 equal bytes add up to 0 mod 256, and would leave no trace in a fingerprint.
    bytes[(block + 1) * BLOCK - 1] = 2 * value;
  }
  return bytes;
}

/** The block numbers that extents cover, by kind. */
function blocksOf(extents: Iterable<{ offset: number; length: number; kind?: string }>, kind?: string): number[] {
  return [...extents]
    .filter((extent) => kind === undefined || extent.kind === kind)
    .flatMap(({ offset, length }) => Array.from({ length: length / BLOCK }, (_, i) => offset / BLOCK + i));
}

const values = fc.array(fc.integer({ min: 0, max: 3 }), { minLength: BLOCKS, maxLength: BLOCKS });

async function withLayers(base: readonly number[], ...images: (readonly number[])[]): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  storage.put("base", image(base));
  for (const [i, changed] of images.entries()) {
    storage.put(`image${i}`, image(changed));
    await create("base", `cow${i}`, { from: `image${i}` }, { storage });
  }
  return storage;
}

function differing(a: readonly number[], b: readonly number[]): number[] {
  return a.flatMap((value, block) => (value === b[block] ? [] : [block]));
}

function expectSame(result: DiffResult, expected: readonly number[]): void {
  expect(blocksOf(result.extents)).toEqual(expected);
  expect(result.identical).toBe(expected.length === 0);
  expect(result.bytesDifferent).toBe(expected.length * BLOCK);
}

describe("diff", () => {
  it("finds the blocks in which stacks and images differ, and its delta turns one into the other", async () => {
    await fc.assert(
      fc.asyncProperty(values, values, values, async (base, a, b) => {
        const storage = await withLayers(base, a, b);
        const context = { storage };
        expectSame(await diff("base,cow0", "base,cow1", {}, context), differing(a, b));
        expectSame(await diff("base,cow0", "image0", {}, context), []);
        expectSame(await diff("image0", "base,cow1", { delta: "delta" }, context), differing(a, b));
        await merge("image0", "delta", {}, context);
        expectSame(await diff("image0", "image1", {}, context), []);
      }),
      { numRuns: 60 },
    );
  });

  it("tells, of cowfiles by themselves, what only one of them holds", async () => {
    await fc.assert(
      fc.asyncProperty(values, values, values, async (base, a, b) => {
        const storage = await withLayers(base, a, b);
        const result = await diff("cow0", "cow1", {}, { storage });
        const heldA = new Set(differing(base, a));
        const heldB = new Set(differing(base, b));
        expect(blocksOf(result.extents, "only_a")).toEqual([...heldA].filter((block) => !heldB.has(block)));
        expect(blocksOf(result.extents, "only_b")).toEqual([...heldB].filter((block) => !heldA.has(block)));
        expect(blocksOf(result.extents, "changed")).toEqual(
          differing(a, b).filter((block) => heldA.has(block) && heldB.has(block)),
        );
        const over = await diff("cow0", "cow1", { rdofile: "base" }, { storage });
        expectSame(over, differing(a, b));
      }),
      { numRuns: 60 },
    );
  });

  it("names blocks that a layer holds although the base has the same", async () => {
    const base = Array.from({ length: BLOCKS }, (_, block) => block % 5);
    const changed = base.map((value, block) => (block === 7 || block === 8 ? 9 : value));
    const storage = await withLayers(base, changed);
    // The base gets what the cowfile holds of block 8, in a place that its fingerprint does not cover.
    storage.put("base", image(base.with(8, 9)));
    const result = await diff("base", "base,cow0", {}, { storage });
    expect(blocksOf(result.extents)).toEqual([7]);
    expect(blocksOf(result.redundant)).toEqual([8]);
  });

  it("reads nothing of the base where no layer holds anything", async () => {
    const base = Array.from({ length: BLOCKS }, () => 1);
    const storage = await withLayers(base, base.with(30, 2), base.with(31, 3));
    const reads: number[] = [];
    const open = storage.open.bind(storage);
    storage.open = (path, options) => {
      const device = open(path, options);
      if (path !== "base") return device;
      const read = device.read.bind(device);
      device.read = (target, offset) => {
        for (let at = offset; at < offset + target.length; at += BLOCK) reads.push(Math.floor(at / BLOCK));
        return read(target, offset);
      };
      return device;
    };
    expectSame(await diff("base,cow0", "base,cow1", {}, { storage }), [30, 31]);
    // Whether it looks like another format, or is a stack file, shows in its first 4 KiB, which are read for each; the fingerprint takes its first 256 KiB, all of this image; the comparison itself begins behind that.
    expect(reads.slice((BLOCKS + 8) * 2).every((block) => block === 30 || block === 31)).toBe(true);
  });

  it("counts what only the larger image has, to the last byte", async () => {
    const storage = new MemoryStorage();
    storage.put("a", image([1, 2, 3]));
    storage.put("b", image([1, 2, 3, 4], 100));
    const result = await diff("a", "b", {}, { storage });
    expect([...result.extents]).toEqual([{ offset: 3 * BLOCK, length: BLOCK + 100, kind: "changed" }]);
    expect(result.virtualSizeBytes).toBe(4 * BLOCK + 100);
  });

  it("refuses cowfiles of different bases, and a cowfile by itself against an image", async () => {
    const storage = await withLayers([1, 2, 3, 4], [1, 2, 3, 5]);
    storage.put("other", image([4, 3, 2, 1]));
    await create("other", "alien", {}, { storage });
    await expect(diff("cow0", "alien", {}, { storage })).rejects.toMatchObject({ code: "wrong-base", file: "alien" });
    await expect(diff("cow0", "base", {}, { storage })).rejects.toMatchObject({ code: "usage", file: "cow0" });
    await expect(diff("other,cow0", "base", {}, { storage })).rejects.toMatchObject({ code: "wrong-base" });
    await expect(diff("cow0", "cow0", { delta: "d" }, { storage })).rejects.toMatchObject({ code: "usage" });
    await expect(diff("base", "base,cow0", { rdofile: "base" }, { storage })).rejects.toMatchObject({ code: "usage" });
  });

  it("keeps the bytes of the first differing places", async () => {
    const storage = await withLayers([1, 1, 1], [1, 1, 2]);
    const { samples } = await diff("base", "base,cow0", { hexdump: 2 }, { storage });
    expect(samples.map(({ offset }) => offset)).toEqual([2048, 2064]);
    expect(samples[0]?.a[0]).toBe(1);
    expect(samples[0]?.b[0]).toBe(2);
  });
});
