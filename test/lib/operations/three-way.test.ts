/**
 * Proves the three-way merge of siblings against a model, block by block, for layers of every format: what one changed is
 * taken, what both changed alike once, what both changed otherwise is a conflict, and is taken from the preferred side.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { CowError, convert, MemoryStorage, mergeSiblings } from "../../../src/lib/index.ts";
import { layerFormat, layerText, paint, unitOf, viewOf } from "../../support/images/random-stacks.ts";
import { runs } from "../../support/sample.ts";

const BLOCK = 1024;

const patch = fc.record({
  start: fc.double({ min: 0, max: 1, noNaN: true }),
  length: fc.integer({ min: 1, max: 60 }),
  seed: fc.integer({ min: 0, max: 5 }),
});
const patches = fc.array(patch, { maxLength: 4 });
const drawing = fc.record({
  blocks: fc.integer({ min: 1, max: 200 }),
  base: patches,
  common: patches,
  a: patches,
  b: patches,
  formats: fc.tuple(layerFormat, layerFormat),
  unit: fc.integer({ min: 9, max: 12 }),
});

test("takes what each changed, lists conflicts, and prefers a side if asked", async () => {
  await fc.assert(
    fc.asyncProperty(drawing, async (drawn) => {
      const storage = new MemoryStorage();
      const context = { storage };
      const base = paint(new Uint8Array(drawn.blocks * BLOCK), drawn.base);
      const both = paint(base, drawn.common);
      const sides = [paint(both, drawn.a), paint(both, drawn.b)] as const;
      storage.put("base", base);
      const names: string[] = [];
      for (const [i, format] of drawn.formats.entries()) {
        storage.put(`side${i}.img`, sides[i] ?? base);
        const how = { to: format, base: "base", ...unitOf(format, 2 ** drawn.unit) };
        await convert(`side${i}.img`, `layer${i}`, how, context);
        names.push(layerText(format, `layer${i}`));
      }
      const [a = "", b = ""] = names;
      const conflicts = new Set<number>();
      const wanted = { a: Buffer.from(base), b: Buffer.from(base) };
      for (let block = 0; block < drawn.blocks; block++) {
        const [from, to] = [block * BLOCK, (block + 1) * BLOCK];
        const [was, ours, theirs] = [base, ...sides].map((image) => Buffer.from(image.subarray(from, to)));
        if (!was || !ours || !theirs) return;
        const isChanged = [!ours.equals(was), !theirs.equals(was)];
        if (isChanged[0] && isChanged[1] && !ours.equals(theirs)) conflicts.add(block);
        wanted.a.set(isChanged[0] ? ours : theirs, from);
        wanted.b.set(isChanged[1] ? theirs : ours, from);
      }
      const plain = await mergeSiblings("base", a, b, { output: "out" }, context);
      const listed = [...plain.conflicts].flatMap(({ offset, length }) =>
        Array.from({ length: length / BLOCK }, (_, i) => offset / BLOCK + i),
      );
      expect(listed).toEqual([...conflicts]);
      expect(plain.written).toBe(conflicts.size === 0);
      if (conflicts.size > 0) expect(storage.content("out")).toBeUndefined();
      else expect(Buffer.compare(await viewOf(storage, "base,out"), wanted.a)).toBe(0);
      for (const prefer of ["a", "b"] as const) {
        const told = await mergeSiblings("base", a, b, { output: `out-${prefer}`, prefer, dryRun: true }, context);
        const done = await mergeSiblings("base", a, b, { output: `out-${prefer}`, prefer }, context);
        expect([told.written, told.blocks_merged]).toEqual([false, done.blocks_merged]);
        expect(Buffer.compare(await viewOf(storage, `base,out-${prefer}`), wanted[prefer])).toBe(0);
        expect(done.from_a + done.from_b + done.in_both + done.bytes_in_conflict).toBe(done.bytes_merged);
      }
    }),
    { numRuns: runs(50) },
  );
});

test("refuses a sibling of another base, and a file that is there", async () => {
  const storage = new MemoryStorage();
  const context = { storage };
  const [base, other] = [
    paint(new Uint8Array(20 * BLOCK), [{ start: 0, length: 9, seed: 1 }]),
    new Uint8Array(20 * BLOCK),
  ];
  storage.put("base", base);
  storage.put("other", other);
  for (const [name, to] of [
    ["a", "base"],
    ["b", "other"],
  ] as const) {
    storage.put(`${name}.img`, paint(to === "base" ? base : other, [{ start: 0.5, length: 2, seed: 3 }]));
    await convert(`${name}.img`, name, { to: "cowfile", base: to }, context);
  }
  await expect(mergeSiblings("base", "a", "b", { output: "out" }, context)).rejects.toMatchObject({
    code: "wrong-base",
  });
  await expect(mergeSiblings("base", "a", "a", { output: "b" }, context)).rejects.toBeInstanceOf(CowError);
  expect(await mergeSiblings("base", "a", "a", { output: "b", force: true }, context)).toMatchObject({
    in_both: BLOCK,
  });
});
