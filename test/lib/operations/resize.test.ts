/**
 * Proves that `resize` keeps what a cowfile shows and adds zeros, however often and whatever the base is; that killed at any
 * change, or without power, it leaves the old cowfile or the new one, and the same command completes it; that a resized
 * cowfile is served, merged, rebased and packed; and what it refuses.
 */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  check,
  convert,
  create,
  type ErrorCode,
  info,
  MemoryStorage,
  merge,
  pack,
  rebase,
  resize,
  unpack,
  verifyFingerprint,
} from "../../../src/lib/index.ts";
import { viewOf } from "../../support/images/random-stacks.ts";
import { CMD, RawSession } from "../../support/nbd/raw-session.ts";
import { makeCowfile, makeImage, startServing } from "../../support/nbd/test-server.ts";
import { noise } from "../../support/random.ts";
import { runs } from "../../support/sample.ts";
import { scratchDirectory } from "../../support/scratch.ts";
import { crashStates } from "../../support/storage/crash-states.ts";

const BLOCK = 1024;
/** A bitmap has place for this many blocks and multiples of it. */
const MAP_BLOCKS = 8192;

/** A base of 40 blocks and some bytes, and a cowfile with blocks 3 and 20. */
async function prepared(tail = 0): Promise<{ storage: MemoryStorage; view: Buffer }> {
  const storage = new MemoryStorage();
  const base = noise(40 * BLOCK + tail, 1);
  const view = Buffer.from(base.subarray(0, 40 * BLOCK));
  for (const block of [3, 20]) view.set(noise(BLOCK, block), block * BLOCK);
  storage.put("base", base);
  storage.put("view", Buffer.concat([view, base.subarray(40 * BLOCK)]));
  await create("base", "cow", { from: "view" }, { storage });
  storage.remove("view");
  return { storage, view };
}

test("any number of sizes: what was seen stays, what is added are zeros", async () => {
  const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 90 }), fc.constantFrom(40, 41, MAP_BLOCKS * 3 + 1)), {
    minLength: 1,
    maxLength: 5,
  });
  await fc.assert(
    fc.asyncProperty(sizes, fc.constantFrom(0, 300), async (wanted, tail) => {
      const { storage, view } = await prepared(tail);
      const context = { storage };
      let shown = view;
      for (const blocks of wanted) {
        const request = { sizeBytes: blocks * BLOCK, shrink: true };
        const told = await resize("cow", { ...request, dryRun: true }, context);
        const done = await resize("cow", request, context);
        expect({ ...done, dry_run: true }).toEqual(told);
        const next = Buffer.alloc(blocks * BLOCK);
        shown.copy(next);
        shown = next;
        expect(Buffer.compare(await viewOf(storage, "base,cow"), shown)).toBe(0);
        expect((await info("cow", {}, context)).facts["blocks_used"]).toBe(done.blocks_used);
        expect((await resize("cow", request, context)).already_done).toBe(true);
      }
      // The base record is still that of this base.
      expect(await verifyFingerprint("base", "cow", {}, context)).toMatchObject({
        match: true,
        identity: { recorded: true, verdict: "unchanged" },
      });
      const { problems } = await check("base,cow", {}, context);
      expect([...problems].filter(({ severity }) => severity !== "note")).toEqual([]);
    }),
    { numRuns: runs(40) },
  );
});

test.each([
  ["grown", 70],
  ["shrunk", 10],
])("a crash at any point while it is %s leaves the old cowfile or the new one", async (_, blocks) => {
  const { storage: initial, view } = await prepared();
  const work = (storage: MemoryStorage) => resize("cow", { sizeBytes: blocks * BLOCK, shrink: true }, { storage });
  const wanted = Buffer.alloc(blocks * BLOCK);
  view.copy(wanted);
  let count = 0;
  for await (const { name, storage } of crashStates(initial.clone(), work, 4)) {
    count++;
    const shown = await viewOf(storage, "base,cow");
    expect(Buffer.compare(shown, shown.length === wanted.length ? wanted : view), name).toBe(0);
    await work(storage);
    expect(Buffer.compare(await viewOf(storage, "base,cow"), wanted), name).toBe(0);
  }
  expect(count).toBeGreaterThan(5);
});

test("a resized cowfile fits its base and one of its own size, with the original's fingerprint, and no other", async () => {
  const { storage, view } = await prepared();
  const context = { storage };
  await resize("cow", { addBytes: 30 * BLOCK }, context);
  expect((await info("cow", {}, context)).facts).toMatchObject({ rdo_blocks: 70, base_blocks: 40 });
  const grown = Buffer.alloc(70 * BLOCK);
  view.copy(grown);
  const base = storage.content("base")?.toBytes() ?? new Uint8Array();
  storage.put("cut", base.subarray(0, 30 * BLOCK));
  storage.put("long", Buffer.concat([base, Buffer.alloc(30 * BLOCK)]));
  expect(Buffer.compare(await viewOf(storage, "long,cow"), grown)).toBe(0);
  await expect(viewOf(storage, "cut,cow")).rejects.toMatchObject({ code: "wrong-base" });
  // In place it is merged only into a base of its size; a new image has that anyway.
  await expect(merge("base", "cow", {}, context)).rejects.toMatchObject({
    code: "wrong-base",
    hints: [expect.stringContaining("truncate -s 71680 base"), expect.stringContaining("--output")],
  });
  await merge("base", "cow", { output: "out" }, context);
  expect(Buffer.compare(storage.content("out")?.toBytes() ?? Buffer.alloc(0), grown)).toBe(0);
  // A layer over it sees the image as it is.
  await create("base,cow", "top", {}, context);
  await expect(viewOf(storage, "base,cow,top")).resolves.toHaveLength(grown.length);
  // A pack has no room for the note: it fits a base of that size.
  const notices: string[] = [];
  await pack("cow", "packed", {}, { storage, onNotice: ({ message }) => void notices.push(message) });
  expect(notices.join()).toMatch(/was resized/);
  await unpack("packed", "again", {}, context);
  expect(Buffer.compare(await viewOf(storage, "long,again"), grown)).toBe(0);
  await expect(viewOf(storage, "base,again")).rejects.toMatchObject({ code: "wrong-base" });
  // For another machine it stays a resized one.
  await convert("cow", "sparc", { to: "cowfile", abi: "be64" }, context);
  expect(Buffer.compare(await viewOf(storage, "base,sparc"), grown)).toBe(0);
  // A new base of the same size, and one of the image's.
  storage.put("next", Buffer.concat([noise(BLOCK, 77), base.subarray(BLOCK)]));
  await rebase("cow", { from: "base", to: "next" }, context);
  expect(Buffer.compare(await viewOf(storage, "next,cow"), grown)).toBe(0);
  await rebase("cow", { from: "next", to: "long" }, context);
  expect(Buffer.compare(await viewOf(storage, "long,cow"), grown)).toBe(0);
  expect((await info("cow", {}, context)).facts["base_blocks"]).toBeUndefined();
  await merge("long", "cow", {}, context);
  expect(Buffer.compare(storage.content("long")?.toBytes() ?? Buffer.alloc(0), grown)).toBe(0);
});

test("a layer is merged into a resized cowfile, which stays one", async () => {
  const { storage, view } = await prepared();
  const context = { storage };
  await resize("cow", { addBytes: 5 * BLOCK }, context);
  const shown = Buffer.concat([view, Buffer.alloc(4 * BLOCK), noise(BLOCK, 9)]);
  storage.put("shown", shown);
  await create("base,cow", "top", { from: "shown" }, context);
  await merge("base,cow", "top", {}, context);
  expect(Buffer.compare(await viewOf(storage, "base,cow"), shown)).toBe(0);
});

test.each<[string, Parameters<typeof resize>[1], ErrorCode, string, RegExp]>([
  ["less without shrink", { sizeBytes: 8 * BLOCK }, "usage", "cow", /beyond the new end: 1$/],
  ["a part of a block", { sizeBytes: 50 * BLOCK + 1 }, "usage", "cow", /no whole number of blocks/],
  ["nothing", { sizeBytes: 0, shrink: true }, "usage", "cow", /one block at least/],
  ["too much", { sizeBytes: 2 ** 52 }, "unsuitable", "cow", /at most/],
  ["an image", { addBytes: BLOCK }, "unsupported", "base", /raw image/],
])("refuses %s", async (_, request, code, file, message) => {
  const { storage } = await prepared();
  const before = storage.content("cow")?.toBytes();
  await expect(resize(file, request, { storage })).rejects.toMatchObject({
    code,
    message: expect.stringMatching(message),
  });
  expect(storage.content("cow")?.toBytes()).toEqual(before);
});

test("refuses a cowfile whose merge was begun", async () => {
  const { storage } = await prepared();
  const states = crashStates(storage.clone(), (each) => merge("base", "cow", {}, { storage: each }), 1);
  const codes = new Set<string>();
  for await (const { storage: half } of states)
    await resize("cow", { addBytes: BLOCK }, { storage: half }).then(
      () => codes.add("done"),
      ({ code }) => codes.add(code),
    );
  expect([...codes].sort()).toEqual(["done", "pending-merge"]);
});

const at = scratchDirectory();

test("is served over its shorter base", async () => {
  const [base, cow] = [at("base.img"), at("vm.cow")];
  const content = noise(300 * BLOCK, 5);
  makeImage(base, content);
  await makeCowfile(base, cow);
  await resize(cow, { sizeBytes: 4 << 20 }, {});
  const shown = Buffer.alloc(4 << 20);
  shown.set(content);
  const server = await startServing(at, [base, cow]);
  const session = await RawSession.open(server.socket, "structured", { contexts: ["base:allocation"] });
  const read = async (offset: number, length: number) =>
    expect(Buffer.compare(await session.read(offset, length), shown.subarray(offset, offset + length))).toBe(0);
  // Twice: from the disk, and from mapped memory.
  for (let i = 0; i < 2; i++)
    for (const offset of [0, 290 * BLOCK, 299 * BLOCK, 301 * BLOCK, 3 << 20]) await read(offset, 200 * BLOCK);
  // Parts of blocks are copied up from what is behind the base: zeros.
  for (const [offset, length] of [
    [299 * BLOCK + 100, 3000],
    [2 << 20, 100],
    [(4 << 20) - 512, 512],
  ] as const) {
    const bytes = noise(length, offset);
    shown.set(bytes, offset);
    await session.write(offset, bytes);
  }
  await read(0, 1 << 20);
  await read((4 << 20) - 4096, 4096);
  const { extents } = await session.ask({ type: CMD.BLOCK_STATUS, offset: 1 << 20, length: 1 << 20 });
  expect(extents.get("base:allocation")).toEqual([[1 << 20, 3]]);
  await session.goodbye();
  await server.stop();
  await merge(base, cow, { output: at("out") }, {});
  expect(Buffer.compare(readFileSync(at("out")), shown)).toBe(0);
});
