/**
 * Proves that `rebase` keeps the view of random stacks, byte for byte, whatever the bases are; that killed at any change, or
 * without power, it leaves the old cowfile or the new one, and the same command completes it; and what it refuses.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { create, diff, MemoryStorage, rebase } from "../../../src/lib/index.ts";
import { paint, viewOf } from "../../support/images/random-stacks.ts";
import { noise } from "../../support/random.ts";
import { runs } from "../../support/sample.ts";
import { crashStates } from "../../support/storage/crash-states.ts";

const BLOCK = 1024;

const patch = fc.record({
  start: fc.double({ min: 0, max: 1, noNaN: true }),
  length: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 120 })),
  seed: fc.integer({ min: 0, max: 1000 }),
});
const patches = fc.array(patch, { maxLength: 5 });

const drawing = fc.record({
  blocks: fc.integer({ min: 1, max: 300 }),
  tail: fc.constantFrom(0, 512),
  old: patches,
  /** Undefined: it is over the same image, and only layers differ. */
  new: fc.option(patches, { nil: undefined }),
  oldLayer: fc.option(patches, { nil: undefined }),
  newLayer: fc.option(patches, { nil: undefined }),
  own: patches,
  /** What the machine installed by itself of the new base. */
  installed: fc.boolean(),
  top: patches,
  dropEqual: fc.boolean(),
});

/** A stack of an image and maybe a layer, and what it shows. */
async function putBase(
  storage: MemoryStorage,
  name: string,
  image: Uint8Array,
  layer: Parameters<typeof paint>[1] | undefined,
) {
  if (!storage.content(`${name}.img`)) storage.put(`${name}.img`, image);
  if (!layer) return { stack: `${name}.img`, shown: image };
  const shown = paint(image, layer);
  // What is less than a block is in no cowfile.
  const whole = Math.floor(image.length / BLOCK) * BLOCK;
  shown.set(image.subarray(whole), whole);
  const file = `${name}-${storage.paths().length}.cow`;
  storage.put(`${file}.img`, shown);
  await create(`${name}.img`, file, { from: `${file}.img` }, { storage });
  return { stack: `${name}.img,${file}`, shown: shown.subarray(0, whole) };
}

test("the view of random stacks is kept, and that of a layer above", async () => {
  await fc.assert(
    fc.asyncProperty(drawing, async (drawn) => {
      const storage = new MemoryStorage();
      const context = { storage };
      const size = drawn.blocks * BLOCK;
      const oldImage = paint(new Uint8Array(size + drawn.tail), drawn.old);
      const from = await putBase(storage, "old", oldImage, drawn.oldLayer);
      const to = drawn.new
        ? await putBase(storage, "new", paint(oldImage, drawn.new), drawn.newLayer)
        : await putBase(storage, "old", oldImage, drawn.newLayer);
      const own = paint(from.shown.slice(0, size), drawn.own);
      if (drawn.installed) own.set(to.shown.subarray(0, Math.min(size, 40 * BLOCK)));
      storage.put("own.img", own);
      await create(from.stack, "cow", { from: "own.img" }, context);
      const top = paint(own, drawn.top);
      storage.put("top.img", top);
      await create(`${from.stack},cow`, "top", { from: "top.img" }, context);
      const request = { from: from.stack, to: to.stack, dropEqual: drawn.dropEqual };
      const told = await rebase("cow", { ...request, dryRun: true }, context);
      const done = await rebase("cow", request, context);
      expect({ ...done, dry_run: true }).toEqual(told);
      expect(done.blocks_used).toBe(done.blocks_before + done.blocks_added - done.blocks_dropped);
      for (const [stack, wanted] of [
        [`${to.stack},cow`, own],
        [`${to.stack},cow,top`, top],
      ] as const)
        expect(Buffer.compare(await viewOf(storage, stack), wanted), stack).toBe(0);
      // Again: done already, or the same once more. And then what could not be given up while that was possible.
      await rebase("cow", request, context);
      expect(Buffer.compare(await viewOf(storage, `${to.stack},cow`), own)).toBe(0);
      if (!drawn.dropEqual) return;
      await rebase("cow", { ...request, from: to.stack }, context);
      expect(Buffer.compare(await viewOf(storage, `${to.stack},cow`), own)).toBe(0);
      expect((await diff(to.stack, `${to.stack},cow`, {}, context)).redundant.totalBytes).toBe(0);
    }),
    { numRuns: runs(60) },
  );
});

function changed(image: Uint8Array, seed: number, ...blocks: number[]): Buffer {
  const copy = Buffer.from(image);
  for (const block of blocks) copy.set(noise(BLOCK, seed + block), block * BLOCK);
  return copy;
}

/** Two bases that differ in the blocks `differing`; the cowfile holds three, one of them as the new base has it. */
async function prepared(...differing: number[]): Promise<{ storage: MemoryStorage; view: Buffer }> {
  const storage = new MemoryStorage();
  const base = noise(40 * BLOCK, 1);
  const later = changed(base, 200, ...differing);
  const view = changed(base, 100, 3, 20);
  view.set(later.subarray(30 * BLOCK, 31 * BLOCK), 30 * BLOCK);
  storage.put("old", base);
  storage.put("new", later);
  storage.put("view", view);
  await create("old", "cow", { from: "view" }, { storage });
  return { storage: storage.clone(), view };
}

describe("a crash at any point leaves the old cowfile or the new one, and the same command completes it", () => {
  test.each([
    ["the fingerprint changes", [0, 5, 30], { dropEqual: true }],
    ["the fingerprint stays", [25, 30], {}],
    ["the fingerprint stays, equal blocks go", [25, 30], { dropEqual: true }],
    ["unsafe", [0], { unsafe: true }],
  ] as const)("%s", async (_, differing, options) => {
    const { storage: initial, view } = await prepared(...differing);
    const request = { from: "old", to: "new", ...options };
    const work = (storage: MemoryStorage) => rebase("cow", request, { storage });
    const isKept = async (storage: MemoryStorage, base: string): Promise<boolean> =>
      Buffer.compare(await viewOf(storage, `${base},cow`).catch(() => new Uint8Array()), view) === 0;
    const whole = initial.clone();
    await work(whole);
    let count = 0;
    for await (const { name, storage } of crashStates(initial, work, 4)) {
      count++;
      const [old, renewed] = [storage.content("cow")?.toBytes(), whole.content("cow")?.toBytes() ?? []];
      const isNew = Buffer.compare(Buffer.from(old ?? []), Buffer.from(renewed)) === 0;
      if (!("unsafe" in options)) expect(await isKept(storage, isNew ? "new" : "old"), name).toBe(true);
      await work(storage);
      expect(Buffer.compare(await viewOf(storage, "new,cow"), await viewOf(whole, "new,cow")), name).toBe(0);
    }
    expect(count).toBeGreaterThan(5);
  });
});

describe("refuses", () => {
  test("a base of another size, a cowfile of another base, --from missing, a pack's place", async () => {
    const { storage } = await prepared(0);
    const context = { storage };
    storage.put("long", new Uint8Array(50 * BLOCK));
    await expect(rebase("cow", { from: "old", to: "long" }, context)).rejects.toMatchObject({
      code: "unsuitable",
      file: "long",
    });
    await expect(rebase("cow", { from: "view", to: "old" }, context)).resolves.toMatchObject({ already_done: true });
    storage.put("other", noise(40 * BLOCK, 9));
    await expect(rebase("cow", { from: "other", to: "new" }, context)).rejects.toMatchObject({ code: "wrong-base" });
    await expect(rebase("cow", { to: "new" }, context)).rejects.toMatchObject({ code: "usage" });
    await expect(rebase("old", { from: "old", to: "new" }, context)).rejects.toMatchObject({ code: "usage" });
  });

  test("an old base that changed since, where the cowfile does not hide it", async () => {
    const { storage, view } = await prepared(25);
    storage.put("old", changed(storage.content("old")?.toBytes() ?? new Uint8Array(), 300, 12));
    const request = { from: "old", to: "new" };
    await expect(rebase("cow", request, { storage })).rejects.toMatchObject({ code: "wrong-base", file: "old" });
    await rebase("cow", { ...request, force: true }, { storage });
    expect(Buffer.compare(await viewOf(storage, "new,cow"), changed(view, 300, 12))).toBe(0);
  });

  test("to give up, while that could not be repeated, what only the new base has", async () => {
    const { storage, view } = await prepared(25, 30);
    const notes: string[] = [];
    const context = { storage, onNotice: ({ message }: { message: string }) => void notes.push(message) };
    const first = await rebase("cow", { from: "old", to: "new", dropEqual: true }, context);
    expect([first.blocks_added, first.blocks_dropped, first.blocks_used]).toEqual([1, 0, 4]);
    expect(notes.join()).toMatch(/^1 blocks as new has them are kept/);
    const second = await rebase("cow", { from: "new", to: "new", dropEqual: true }, context);
    expect([second.blocks_dropped, second.blocks_used]).toEqual([1, 3]);
    expect(Buffer.compare(await viewOf(storage, "new,cow"), view)).toBe(0);
  });
});
