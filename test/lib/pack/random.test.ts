/**
 * Proves with cowfiles of any shape that packing loses nothing: each form is what the book says, unpacks to the same file,
 * and, where blocks can be reached in it, reads as that file at any place.
 */
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PackedView } from "../../../src/lib/formats/cowfile/pack/packed-view.ts";
import { ABI_NAMES, MemoryDevice, mapSizeFor, SparseBytes } from "../../../src/lib/index.ts";
import {
  BLOCK_BYTES,
  type Cow,
  firstDifference,
  layOut,
  packed,
  packInMemory,
  payloadOf,
  plainOf,
  unpackInMemory,
} from "../../support/images/pack-images.ts";
import { noise } from "../../support/random.ts";
import { runs } from "../../support/sample.ts";

/** Bits in a window of the bitmap, as the library reads it. */
const WINDOW_BLOCKS = 524288;
const RUNS = runs(24);

/** Noise, zeros, something that compresses, or a single bit at the end. */
const anyContent = fc.oneof(
  fc.nat(1000).map((seed) => noise(BLOCK_BYTES, seed)),
  fc.constant(new Uint8Array(BLOCK_BYTES)),
  fc.nat(255).map((byte) => new Uint8Array(BLOCK_BYTES).fill(byte)),
  fc.constant(new Uint8Array(BLOCK_BYTES).fill(1, BLOCK_BYTES - 1)),
);

/** Cowfiles whose marked blocks are drawn from `anyBlock`. */
function anyCow(
  anyBlockCount: fc.Arbitrary<number>,
  anyBlock: (blocks: number) => fc.Arbitrary<number>,
): fc.Arbitrary<Cow> {
  return anyBlockCount.chain((rdoBlocks) =>
    fc
      .record({
        abi: fc.constantFrom(...ABI_NAMES),
        numbers: fc.uniqueArray(anyBlock(rdoBlocks), { maxLength: 24 }),
        contents: fc.array(anyContent, { minLength: 24, maxLength: 24 }),
        // Where the driver puts the data, right behind the bitmap, or anywhere after it.
        gap: fc.oneof(fc.constant(undefined), fc.constant(0), fc.nat(10_000)),
      })
      .map(({ abi, numbers, contents, gap }) => {
        const ascending = numbers.sort((a, b) => a - b);
        return layOut({
          abi,
          rdoBlocks,
          blocks: ascending.map((block, i) => [block, contents[i] ?? new Uint8Array()] as const),
          ...(gap === undefined ? {} : { dataOffset: BLOCK_BYTES + mapSizeFor(rdoBlocks) + gap }),
        });
      }),
  );
}

const smallCow = anyCow(fc.integer({ min: 1, max: 20_000 }), (blocks) => fc.nat(blocks - 1));

/** Their marks lie around the borders of the windows, and at both ends. */
const windowCow = anyCow(
  fc.oneof(
    fc.integer({ min: WINDOW_BLOCKS - 2, max: WINDOW_BLOCKS + 2 }),
    fc.integer({ min: WINDOW_BLOCKS, max: 1_700_000 }),
  ),
  (blocks) =>
    fc
      .tuple(
        fc.constantFrom(0, WINDOW_BLOCKS, 2 * WINDOW_BLOCKS, 3 * WINDOW_BLOCKS, blocks - 1),
        fc.integer({ min: -9, max: 9 }),
      )
      .map(([around, distance]) => Math.min(blocks - 1, Math.max(0, around + distance))),
);

/** Places to read: anywhere, and around the borders between head, bitmap, gap and data. */
const anyRange = (size: number, borders: readonly number[]): fc.Arbitrary<readonly [number, number]> =>
  fc
    .tuple(
      fc.oneof(
        fc.nat(size + 100),
        fc
          .tuple(fc.constantFrom(...borders), fc.integer({ min: -1500, max: 1500 }))
          .map(([a, b]) => Math.max(0, a + b)),
      ),
      fc.oneof(fc.nat(3000), fc.nat(200_000)),
    )
    .map(([offset, length]) => [offset, length] as const);

async function expectPacksToTheBook(cow: Cow): Promise<void> {
  expect((await packed(cow, "plain")).equals(plainOf(cow)), "plain").toBe(true);
  expect(gunzipSync(await packed(cow, "gzip")).equals(payloadOf(cow)), "gzip").toBe(true);
  const { content, result } = await packInMemory(cow.content, {});
  const bytes = Buffer.from(content.toBytes());
  // As any decoder, this one passes over the skippable frames at the end.
  expect(zstdDecompressSync(bytes).equals(payloadOf(cow)), "zstd").toBe(true);
  expect(result.blocks).toBe(cow.data.length);
}

async function expectComesBack(cow: Cow): Promise<void> {
  for (const format of ["zstd", "gzip", "plain"] as const) {
    const { content, result, notices } = await unpackInMemory(await packed(cow, format));
    expect(firstDifference(content, cow.content), format).toBeUndefined();
    expect([result.format, result.blocks, notices]).toEqual([format, cow.data.length, []]);
  }
}

async function expectReadsAlike(cow: Cow): Promise<void> {
  const { content, dataOffset, bitmap } = cow;
  const borders = [BLOCK_BYTES, BLOCK_BYTES + bitmap.length, dataOffset, content.sizeBytes];
  for (const format of ["zstd", "plain"] as const) {
    const source = new MemoryDevice("pack", SparseBytes.from(await packed(cow, format)), false);
    const view = new PackedView(source, format);
    expect([view.sizeBytes, view.blocks, view.surplusBytes]).toEqual([content.sizeBytes, cow.data.length, 0]);
    const ranges = fc.sample(anyRange(content.sizeBytes, borders), { numRuns: 25, seed: cow.data.length });
    const places = [...ranges, ...borders.map((border) => [border - 1, 2] as const)];
    for (const [offset, length] of places) {
      const [is, should] = [new Uint8Array(length).fill(0xaa), new Uint8Array(length).fill(0xaa)];
      expect(view.read(is, offset), `${format} at ${offset}`).toBe(content.read(should, offset));
      expect(Buffer.compare(is, should), `${format} at ${offset}, ${length} bytes`).toBe(0);
    }
    expectExtentsCover(view, content, ranges);
  }
}

/** What is no hole in the file is in the extents, which ascend and stay within what was asked for. */
function expectExtentsCover(
  view: PackedView,
  content: SparseBytes,
  ranges: readonly (readonly [number, number])[],
): void {
  for (const [from, length] of ranges) {
    let end = from;
    const isIn = new Uint8Array(length);
    for (const extent of view.dataExtents(from, from + length)) {
      expect(extent.offset).toBeGreaterThanOrEqual(end);
      expect(extent.length).toBeGreaterThan(0);
      end = extent.offset + extent.length;
      expect(end).toBeLessThanOrEqual(Math.min(from + length, content.sizeBytes));
      isIn.fill(1, extent.offset - from, end - from);
    }
    const bytes = new Uint8Array(length);
    content.read(bytes, from);
    const forgotten = bytes.findIndex((byte, i) => byte !== 0 && isIn[i] === 0);
    expect(forgotten, `from ${from}`).toBe(-1);
  }
}

describe.each([
  ["small cowfiles", smallCow, RUNS],
  ["cowfiles with marks around the windows of the bitmap", windowCow, RUNS / 2],
])("%s", (_, cows, numRuns) => {
  // What fails is made smaller for as long; without a limit a failure would become a timeout that says nothing.
  const options = { numRuns, interruptAfterTimeLimit: 10_000 };
  const holds = (of: (cow: Cow) => Promise<void>): Promise<void> => fc.assert(fc.asyncProperty(cows, of), options);
  test("are packed as the book says", () => holds(expectPacksToTheBook));
  test("come back byte for byte", () => holds(expectComesBack));
  test("read alike while packed", () => holds(expectReadsAlike));
});

describe("a bitmap of a megabyte that is nearly all zeros", () => {
  const cow = layOut({
    rdoBlocks: 9_000_000,
    blocks: [1, WINDOW_BLOCKS, 8_999_999].map((block) => [block, noise(BLOCK_BYTES, block)] as const),
  });

  test.each(["zstd", "gzip", "plain"] as const)("%s: its holes stay holes, in the pack and back", async (format) => {
    const { content } = await packInMemory(cow.content, { format });
    expect(content.pages.size).toBeLessThanOrEqual(cow.content.pages.size + 2);
    const back = (await unpackInMemory(content)).content;
    expect(firstDifference(back, cow.content)).toBeUndefined();
    expect(back.pages.size).toBeLessThanOrEqual(cow.content.pages.size + 2);
  });
});

describe("the same bytes every time", () => {
  const cow = layOut({
    rdoBlocks: 5000,
    blocks: Array.from({ length: 2500 }, (_, i) => [2 * i, noise(i % 3 === 0 ? 0 : BLOCK_BYTES, i)] as const),
  });

  test.each(["zstd", "gzip", "plain"] as const)("%s: however many threads there are", async (format) => {
    const [one, two, seven, usual] = await Promise.all(
      [1, 2, 7, undefined].map(async (threads) => (await packInMemory(cow.content, { format, threads })).content),
    );
    for (const other of [two, seven, usual]) expect(one && other && firstDifference(one, other)).toBeUndefined();
    for (const threads of [1, 2, 7]) {
      const back = await unpackInMemory(await packed(cow, format), threads);
      expect(firstDifference(back.content, cow.content)).toBeUndefined();
    }
  });

  /** Levels differ where there is something to find. */
  const WORDS = ["moo", "cow", "grass", "milk", "horn", "bell", "calf", "hay"];
  const prose = Buffer.from(Array.from(noise(60_000, 5), (byte) => WORDS[byte & 7]).join(" "));
  const text = layOut({
    rdoBlocks: 200,
    blocks: Array.from({ length: 200 }, (_, i) => [i, prose.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES)] as const),
  });

  test.each([
    ["zstd", [1, 3, 9, 22], 3],
    ["gzip", [1, 5, 9], 9],
  ] as const)("%s: each level gives other bytes of the same content", async (format, levels, usual) => {
    const seen = new Map<string, number>();
    for (const level of levels) {
      const { content } = await packInMemory(text.content, { format, level });
      seen.set(Buffer.from(content.toBytes()).toString("latin1"), level);
      expect(firstDifference((await unpackInMemory(content)).content, text.content)).toBeUndefined();
    }
    expect(seen.size).toBe(levels.length);
    expect(seen.get((await packed(text, format)).toString("latin1"))).toBe(usual);
  });
});
