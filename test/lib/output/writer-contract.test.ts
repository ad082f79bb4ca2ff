/**
 * Proves that the same content gives the same file, byte for byte and by allocated size, from every command that can write
 * it: whether zeros were written as data or left as holes in the files that it is read from, and whatever the format.
 * So many runs as COWTOOL_CONTRACT_RUNS says.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { SparseBytes } from "../../../src/lib/index.ts";
import { convert, create, diff, invert, MemoryStorage, merge, squash } from "../../../src/lib/index.ts";
import { createStoreFile } from "../../../src/lib/operations/create-store.ts";
import { cowfileBytes, leastDataOffset, naiveFingerprint } from "../../support/images/driver-model.ts";
import { noise } from "../../support/random.ts";

const numRuns = Number(process.env["COWTOOL_CONTRACT_RUNS"] ?? 60);
const BLOCK = 1024;

/** What a run of blocks holds: something new, zeros over whatever the base has, or what the base has. */
const kind = fc.constantFrom("new", "zeros", "same");
const run = fc.record({ skip: fc.integer({ min: 0, max: 40 }), length: fc.integer({ min: 1, max: 40 }), kind });

const drawing = fc.record({
  blocks: fc.integer({ min: 1, max: 400 }),
  tail: fc.constantFrom(0, 512, 100),
  /** Runs of the base that are holes. */
  holes: fc.array(fc.tuple(fc.integer({ min: 0, max: 400 }), fc.integer({ min: 1, max: 60 })), { maxLength: 4 }),
  runs: fc.array(run, { minLength: 1, maxLength: 12 }),
  seed: fc.integer(),
  unitBits: fc.integer({ min: 9, max: 16 }),
});

type Drawn = typeof drawing extends fc.Arbitrary<infer Value> ? Value : never;

/** Puts base.img, a cowfile over it with its zeros as data (data.cow) and one with holes (holes.cow), and their image there. */
function putFiles(drawn: Drawn): MemoryStorage {
  const { blocks, tail, holes, runs, seed } = drawn;
  const base = noise(blocks * BLOCK + tail, seed);
  for (const [from, length] of holes) base.fill(0, from * BLOCK, Math.min(blocks, from + length) * BLOCK);
  const changed = noise(blocks * BLOCK, seed + 1);
  const image = Uint8Array.from(base);
  const held = new Map<number, Uint8Array>();
  let at = 0;
  for (const { skip, length, kind: what } of runs) {
    at += skip;
    for (let i = 0; i < length && at < blocks; i++, at++) {
      const [from, to] = [at * BLOCK, (at + 1) * BLOCK];
      if (what === "new") image.set(changed.subarray(from, to), from);
      if (what === "zeros") image.fill(0, from, to);
      held.set(at, image.slice(from, to));
    }
  }
  const dataOffset = leastDataOffset(blocks);
  const contents = {
    abi: "le64",
    flags: 0,
    rdoBlocks: blocks,
    dataOffset,
    fingerprint: naiveFingerprint(base),
    used: held.size,
    bits: new Set(held.keys()),
    blocks: held,
  } as const;
  const storage = new MemoryStorage();
  storage.put("base.img", base);
  storage.put("image.img", image);
  for (const name of ["holes.cow", "data.cow"]) storage.put(name, cowfileBytes(contents));
  const file = storage.open("data.cow", { writable: true });
  for (const [block, bytes] of held) file.write(bytes, dataOffset + block * BLOCK);
  file.close();
  return storage;
}

/** Every file of a group is the same: bytes, and pages that are no holes. */
function expectSame(storage: MemoryStorage, names: readonly string[]): void {
  const [first = "", ...rest] = names;
  const pagesOf = (content: SparseBytes | undefined) => [...(content?.pages.keys() ?? [])].sort((a, b) => a - b);
  const whole = storage.content(first);
  for (const name of rest) {
    const other = storage.content(name);
    const isSame = Buffer.compare(whole?.toBytes() ?? Buffer.of(), other?.toBytes() ?? Buffer.of(1)) === 0;
    expect(isSame, `${name} has the bytes of ${first}`).toBe(true);
    expect(pagesOf(other), `pages of ${name}, against ${first}`).toEqual(pagesOf(whole));
  }
}

/** No page of a file is nothing but zeros, apart from those that its metadata may be in. */
function expectNoZeros(storage: MemoryStorage, name: string, from: number): void {
  for (const [index, page] of storage.content(name)?.pages ?? [])
    if (index * 4096 >= from)
      expect(
        page.some((byte) => byte !== 0),
        `page ${index} of ${name}`,
      ).toBe(true);
}

test("cowfiles: squash, convert, merge into a cowfile, and a base inverted twice; create and diff", async () => {
  await fc.assert(
    fc.asyncProperty(drawing, async (drawn) => {
      const storage = putFiles(drawn);
      const context = { storage };
      const written: string[] = [];
      for (const from of ["data", "holes"]) {
        const stack = `base.img,${from}.cow`;
        await squash(stack, `squash-${from}`, {}, context);
        await convert(stack, `convert-${from}`, { to: "cowfile" }, context);
        await create("base.img", `merge-${from}`, { identity: "none" }, context);
        await merge(`base.img,merge-${from}`, `${from}.cow`, {}, context);
        await invert("base.img", `${from}.cow`, { output: `new-${from}`, layer: `old-${from}` }, context);
        await invert(`new-${from}`, `old-${from}`, { output: `base-${from}`, layer: `invert-${from}` }, context);
        written.push(...["squash", "convert", "merge", "invert"].map((command) => `${command}-${from}`));
      }
      expectSame(storage, written);
      expectSame(storage, ["old-data", "old-holes"]);
      expectNoZeros(storage, "squash-data", leastDataOffset(drawn.blocks));
      await create("base.img", "create-image", { from: "image.img", identity: "none" }, context);
      await diff("base.img", "image.img", { delta: "diff-image" }, context);
      await convert("image.img", "convert-image", { to: "cowfile", base: "base.img" }, context);
      expectSame(storage, ["create-image", "diff-image", "convert-image"]);
    }),
    { numRuns },
  );
}, 120_000);

test("raw images: merge -o, convert, invert", async () => {
  await fc.assert(
    fc.asyncProperty(drawing, async (drawn) => {
      const storage = putFiles(drawn);
      const context = { storage };
      const written: string[] = [];
      for (const from of ["data", "holes"]) {
        const stack = `base.img,${from}.cow`;
        await merge("base.img", `${from}.cow`, { output: `merge-${from}` }, context);
        await invert("base.img", `${from}.cow`, { output: `invert-${from}`, layer: `old-${from}` }, context);
        written.push(`merge-${from}`, `invert-${from}`);
        // The image of a stack has no rest of a block behind its last one; merge keeps that of the base.
        if (drawn.tail === 0) {
          await convert(stack, `convert-${from}`, { to: "raw" }, context);
          written.push(`convert-${from}`);
        }
      }
      expectSame(storage, written);
      expectNoZeros(storage, "merge-data", 0);
      const image = Buffer.from(storage.content("image.img")?.toBytes() ?? []);
      expect(image.equals(storage.content("merge-data")?.toBytes() ?? Buffer.of())).toBe(true);
    }),
    { numRuns },
  );
}, 120_000);

test("stores, dm-cow layers and qcow2 files: convert, and create for stores", async () => {
  await fc.assert(
    fc.asyncProperty(drawing, async (drawn) => {
      const storage = putFiles({ ...drawn, tail: 0 });
      const context = { storage };
      const unit = 2 ** drawn.unitBits;
      const groups = new Map<string, string[]>();
      const put = (group: string, name: string): string => {
        groups.set(group, [...(groups.get(group) ?? []), name]);
        return name;
      };
      for (const from of ["data", "holes"]) {
        const stack = `base.img,${from}.cow`;
        await convert(stack, put("store", `store-${from}`), { to: "dm-snapshot", chunkBytes: unit }, context);
        await convert(stack, put("qcow2", `qcow2-${from}`), { to: "qcow2", clusterBytes: unit }, context);
        const over = { to: "qcow2", clusterBytes: unit, base: "base.img" } as const;
        await convert(stack, put("overlay", `overlay-${from}`), over, context);
        await convert(stack, `cow-${from}`, { to: "dm-cow" }, context);
        put("data", `cow-${from}.data`);
        put("bitmap", `cow-${from}.bitmap`);
      }
      const differing = { to: "dm-snapshot", chunkBytes: unit, base: "base.img" } as const;
      await convert("image.img", put("differing", "differing-convert"), differing, context);
      await createStoreFile(
        "base.img",
        put("differing", "differing-create"),
        { from: "image.img", chunkBytes: unit },
        context,
      );
      // A store that `create` makes has room for every chunk of its origin: a hole at its end.
      const [short, long] = ["differing-convert", "differing-create"].map((name) => storage.content(name));
      expect(long?.sizeBytes).toBeGreaterThanOrEqual(short?.sizeBytes ?? Number.NaN);
      short?.resize(long?.sizeBytes ?? 0);
      for (const names of groups.values()) expectSame(storage, names);
    }),
    { numRuns },
  );
}, 120_000);
