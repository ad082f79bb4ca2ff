/**
 * Proves how blocks of zeros that may have been lost are found and graded, wherever the data area begins: whole blocks,
 * each judged by the allocation units that it reaches into. Against a model that looks at one block after the other.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { check, MemoryStorage, repair } from "../../../src/lib/index.ts";
import { BLOCK_BYTES, layOut } from "../../support/images/pack-images.ts";

const UNIT_BYTES = 4096;
const BLOCKS = 60;

const offsets = fc.oneof(
  fc.constantFrom(4096, 4097, 5120, 5121, 6144, 7168, 8191, 12345),
  fc.integer({ min: 4096, max: 16384 }),
);
/** A run of blocks, and whether they are marked; else they are just allocated, and zero. */
const run = fc.record({ first: fc.nat(BLOCKS - 1), count: fc.integer({ min: 1, max: 14 }), marked: fc.boolean() });

function blocksOf(runs: readonly { readonly first: number; readonly count: number }[]): number[] {
  const blocks = runs.flatMap(({ first, count }) => Array.from({ length: count }, (_, i) => first + i));
  return [...new Set(blocks)].filter((block) => block < BLOCKS).sort((a, b) => a - b);
}

test("suspects are whole blocks, alone where a unit holds nothing else of the data area", async () => {
  const scene = fc.tuple(offsets, fc.array(run, { maxLength: 8 }));
  const property = fc.asyncProperty(scene, async ([dataOffset, runs]) => {
    const marked = new Set(blocksOf(runs.filter((each) => each.marked)));
    const { content } = layOut({
      rdoBlocks: BLOCKS,
      dataOffset,
      blocks: [...marked].map((block) => [block, Uint8Array.of(block + 1)]),
    });
    const placeOf = (block: number): number => dataOffset + block * BLOCK_BYTES;
    for (const block of blocksOf(runs)) if (!marked.has(block)) content.write(new Uint8Array(1024), placeOf(block));

    const unitsOf = (from: number, to: number): number[] => {
      const first = Math.floor(from / UNIT_BYTES);
      return Array.from({ length: Math.ceil(to / UNIT_BYTES) - first }, (_, i) => first + i);
    };
    const dataEnd = Math.min(content.sizeBytes, placeOf(BLOCKS));
    const isSuspect = (block: number): boolean =>
      !marked.has(block) &&
      placeOf(block) < dataEnd &&
      unitsOf(placeOf(block), Math.min(dataEnd, placeOf(block + 1))).some((unit) => content.pages.has(unit));
    /** Everything of the unit up to the end of the data is suspect. */
    const explainsItself = (unit: number): boolean => {
      const [from, to] = [unit * UNIT_BYTES, Math.min(dataEnd, (unit + 1) * UNIT_BYTES)];
      if (from < dataOffset) return false;
      for (let at = from; at < to; at++) if (!isSuspect(Math.floor((at - dataOffset) / BLOCK_BYTES))) return false;
      return content.pages.has(unit);
    };
    const expected = Array.from({ length: BLOCKS }, (_, block) => block)
      .filter(isSuspect)
      .map((block) => [
        block,
        unitsOf(placeOf(block), Math.min(dataEnd, placeOf(block + 1))).some(explainsItself) ? "alone" : "shared",
      ]);

    const storage = new MemoryStorage();
    storage.put("cow", content);
    const report = await repair("cow", { force: true, dryRun: true }, { storage });
    const found = [...report.suspects].flatMap(({ offset, length, evidence }) =>
      Array.from({ length: length / BLOCK_BYTES }, (_, i) => [offset / BLOCK_BYTES + i, evidence]),
    );
    expect(found).toEqual(expected);
    expect(report.suspectBlocks).toBe(expected.length);
    const problems = [...(await check("cow", {}, { storage })).problems].filter(({ id }) => id === "suspect-zeros");
    for (const { offset, length } of problems)
      expect([(offset - dataOffset) % BLOCK_BYTES, length % BLOCK_BYTES]).toEqual([0, 0]);
  });
  await fc.assert(property, { numRuns: 300 });
});
