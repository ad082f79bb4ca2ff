/**
 * Proves rollbacks, forks and dropped checkpoints of running exports: what clients see, what is on disk afterwards, and what is
 * refused while clients use an export.
 */
import { existsSync, readFileSync } from "node:fs";
import { expect, test, vi } from "vitest";
import { nodeStorage } from "../../../src/lib/device/node-storage.ts";
import type { Storage } from "../../../src/lib/device/storage.ts";
import { CowError, create, diff } from "../../../src/lib/index.ts";
import { CMD, RawSession, succeed } from "../../support/nbd/raw-session.ts";
import { makeImage, startServing, type TestServer } from "../../support/nbd/test-server.ts";
import { noise } from "../../support/random.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const SIZE = 1 << 20;
const at = scratchDirectory();

async function serveDisk(name: string): Promise<TestServer> {
  makeImage(at(`${name}.img`), noise(64 << 10, 1), SIZE);
  await create(at(`${name}.img`), at(`${name}.cow`), { stackFile: at(`${name}.stack`) });
  return startServing(at, [{ name, stack: `stack:${at(`${name}.stack`)}` }]);
}

const layersOf = (name: string) =>
  (JSON.parse(readFileSync(at(`${name}.stack`), "utf8")) as { layers: { file: string; shared?: boolean }[] }).layers;

/** Writes `count` blocks of noise at once, and reads the whole disk again. */
async function write(server: TestServer, name: string, seed: number): Promise<Buffer> {
  const session = await RawSession.open(server.socket, "structured", { name });
  await session.write(seed * 8192, noise(8192, seed));
  const image = await session.read(0, SIZE);
  await session.goodbye();
  return image;
}

async function read(server: TestServer, name: string): Promise<Buffer> {
  const session = await RawSession.open(server.socket, "structured", { name });
  const image = await session.read(0, SIZE);
  await session.goodbye();
  return image;
}

test("an export goes back to a checkpoint, with later ones only if asked to, and files of its own go", async () => {
  const server = await serveDisk("a");
  const images = new Map<string, Buffer>();
  for (const [i, as] of ["one", "two", "three"].entries()) {
    images.set(as, await write(server, "a", i + 1));
    await server.history.checkpoint(["a"], { as });
  }
  await write(server, "a", 4);
  const user = await RawSession.open(server.socket, "structured", { name: "a" });
  await user.read(0, 4096);
  await expect(server.history.rollback("a", { checkpoint: "three" })).rejects.toMatchObject({ code: "locked" });
  await expect(server.history.rollback("a", { checkpoint: "one", force: true })).rejects.toMatchObject({
    code: "usage",
  });
  await expect(server.history.rollback("a", { checkpoint: "x" })).rejects.toMatchObject({ code: "not-found" });
  const { removed } = await server.history.rollback("a", { checkpoint: "three", force: true });
  expect(removed).toEqual([at("a-three.cow")]);
  expect((await read(server, "a")).equals(images.get("three") ?? Buffer.of())).toBe(true);
  await write(server, "a", 5);
  await server.history.rollback("a", { checkpoint: "one", discard: true });
  expect((await read(server, "a")).equals(images.get("one") ?? Buffer.of())).toBe(true);
  const after = await write(server, "a", 6);
  await server.stop();
  expect(layersOf("a").map(({ file }) => existsSync(at(file)))).toEqual([true, true]);
  expect(JSON.parse(readFileSync(at("a.stack"), "utf8"))).not.toHaveProperty("to_remove");
  for (const gone of ["a-one.cow", "a-two.cow", "a-three.cow"]) expect(existsSync(at(gone))).toBe(false);
  makeImage(at("after.img"), after, SIZE);
  expect((await diff(`stack:${at("a.stack")}`, at("after.img"))).identical).toBe(true);
});

test("what was written since a checkpoint is kept under a stack file of its own", async () => {
  const server = await serveDisk("k");
  const one = await write(server, "k", 1);
  await server.history.checkpoint(["k"], { as: "one" });
  const now = await write(server, "k", 2);
  expect(await server.history.rollback("k", { checkpoint: "one", keep: at("kept.stack") })).toEqual({ removed: [] });
  expect((await read(server, "k")).equals(one)).toBe(true);
  await write(server, "k", 3);
  await server.stop();
  makeImage(at("now.img"), now, SIZE);
  expect((await diff(`stack:${at("kept.stack")}`, at("now.img"))).identical).toBe(true);
  expect(layersOf("k").map(({ shared }) => shared)).toEqual([true, undefined]);
});

test("a checkpoint of two exports that is decided is made for both, also if the stack file of one cannot be written then", async () => {
  for (const name of ["p", "q"]) {
    makeImage(at(`${name}.img`), noise(64 << 10, 1), SIZE);
    await create(at(`${name}.img`), at(`${name}.cow`), { stackFile: at(`${name}.stack`) });
  }
  let fails = 0;
  const storage: Storage = {
    ...nodeStorage,
    create: (path, options) => {
      const pending = nodeStorage.create(path, options);
      if (!path.endsWith("q.stack")) return pending;
      const really = pending.rename.bind(pending);
      const rename: typeof pending.rename = (how) => {
        if (fails > 0 && --fails < 2) throw new CowError("io", "cannot create: input/output error", { file: path });
        really(how);
      };
      return Object.assign(pending, { rename });
    },
  };
  const served = ["p", "q"].map((name) => ({ name, stack: `stack:${at(`${name}.stack`)}` }));
  const server = await startServing(at, served, {}, storage);
  const images = [await write(server, "p", 1), await write(server, "q", 2)];
  // The first replacement says that it is pending; the second is that of the checkpoint, the third that of the settling.
  fails = 3;
  await server.history.checkpoint(["p", "q"], { as: "one" });
  expect(fails).toBe(0);
  expect(server.notices.join()).toContain("was made, but it does not say so yet");
  const seen = [await read(server, "p"), await read(server, "q")];
  expect(seen.map((image, i) => image.equals(images[i] ?? Buffer.of()))).toEqual([true, true]);
  const last = await write(server, "q", 3);
  await server.stop();
  const again = await startServing(at, served);
  expect((await read(again, "q")).equals(last)).toBe(true);
  const frozen = [await read(again, "p@one"), await read(again, "q@one")];
  expect(frozen.map((image, i) => image.equals(images[i] ?? Buffer.of()))).toEqual([true, true]);
  await again.stop();
});

test("a fork begins as its checkpoint, or as the export is now; both go their own ways", async () => {
  const server = await serveDisk("f");
  const one = await write(server, "f", 1);
  await server.history.checkpoint(["f"], { as: "one" });
  const two = await write(server, "f", 2);
  const made = await server.history.fork("f", { as: "old", checkpoint: "one" });
  expect(made).toMatchObject({ checkpoint: "one", entry: { name: "old", state: "open" } });
  expect(await server.history.fork("f", { as: "new" })).toMatchObject({ checkpoint: "new" });
  for (const [name, image] of [
    ["old", one],
    ["new", two],
    ["f", two],
  ] as const)
    expect((await read(server, name)).equals(image)).toBe(true);
  const changed = await write(server, "new", 3);
  expect((await read(server, "f")).equals(two)).toBe(true);
  await expect(server.history.fork("f", { as: "new" })).rejects.toMatchObject({ code: "exists" });
  await expect(server.history.fork("f", { as: "a/b" })).rejects.toMatchObject({ code: "usage" });
  // What another stack file names stays.
  await server.history.rollback("f", { checkpoint: "one", discard: true });
  expect((await read(server, "new")).equals(changed)).toBe(true);
  await server.stop();
  makeImage(at("new.img"), changed, SIZE);
  expect((await diff(`stack:${at("new.stack")}`, at("new.img"))).identical).toBe(true);
});

test("a dropped checkpoint cannot be asked for any more, and an export grows when its clients may be hung up on", async () => {
  const server = await serveDisk("d");
  await write(server, "d", 1);
  await server.history.checkpoint(["d"], { as: "one" });
  const image = await write(server, "d", 2);
  await server.history.drop("d", "one");
  await expect(server.history.drop("d", "one")).rejects.toMatchObject({ code: "not-found" });
  await expect(RawSession.open(server.socket, "structured", { name: "d@one" })).rejects.toThrow();
  expect((await read(server, "d")).equals(image)).toBe(true);
  const user = await RawSession.open(server.socket, "structured", { name: "d" });
  await user.read(0, 4096);
  await expect(server.history.grow("d", 2 * SIZE, {})).rejects.toMatchObject({ code: "locked" });
  await server.history.grow("d", 2 * SIZE, { force: true });
  // Not even closed for that.
  const { served } = server.exports.get("d");
  for (const size of [SIZE, 2 * SIZE]) await expect(server.history.grow("d", size, {})).rejects.toThrow(/only grows/);
  expect(server.exports.get("d").served).toBe(served);
  // What no flag replaces is not said to be replaced by one.
  const there = server.history.flatten("d", { into: at("d.img") });
  await expect(there).rejects.toMatchObject({ code: "exists", hints: [] });
  expect(server.exports.get("d").served?.facts.sizeBytes).toBe(2 * SIZE);
  expect((await read(server, "d")).equals(image)).toBe(true);
  await server.stop();
});

test("what cannot be a checkpoint is said of the request, before any file is looked at", async () => {
  const server = await serveDisk("w");
  const before = readFileSync(at("w.stack"), "utf8");
  for (const request of [
    { as: "q\0" },
    { as: ".hid" },
    { as: "ok", note: "n".repeat(4097) },
    { as: "ok", note: "half \ud800" },
  ])
    await expect(server.history.checkpoint(["w"], request)).rejects.toMatchObject({ code: "usage" });
  await expect(server.history.checkpoint(["w"], { as: "-x" })).rejects.toThrow("a letter or digit, then");
  for (const checkpoint of ["\0", "none"]) {
    await expect(server.history.drop("w", checkpoint)).rejects.toMatchObject({ code: "not-found" });
    await expect(server.history.rollback("w", { checkpoint })).rejects.toMatchObject({ code: "not-found" });
  }
  expect(readFileSync(at("w.stack"), "utf8")).toBe(before);
  await server.exports.reopen("w", { access: "read-only" });
  await expect(server.history.checkpoint(["w"], { as: "ok" })).rejects.toThrow('export "w" is read-only');
  await server.stop();
});

test("an export that could not be closed to be made larger is open again", async () => {
  const server = await serveDisk("g");
  const image = await write(server, "g", 1);
  const entry = server.exports.get("g");
  const stack = entry.served?.stack;
  if (!stack) throw new Error("served");
  const close = stack.close.bind(stack);
  vi.spyOn(stack, "close").mockImplementation(() => {
    close();
    throw new CowError("io", "cannot make what was written durable");
  });
  await expect(server.history.grow("g", 2 * SIZE, {})).rejects.toMatchObject({ code: "io" });
  expect(entry.state).toBe("open");
  expect((await read(server, "g")).equals(image)).toBe(true);
  await server.history.grow("g", 2 * SIZE, {});
  await server.stop();
});

test("where a disk has grown since a checkpoint, only what was written there has changed", async () => {
  const server = await serveDisk("h");
  await server.history.checkpoint(["h"], { as: "one" });
  await write(server, "h", 1);
  await server.history.checkpoint(["h"], { as: "two" });
  await server.history.grow("h", 2 * SIZE, {});
  const context = "qemu:dirty-bitmap:since-one";
  const session = await RawSession.open(server.socket, "structured", { name: "h", contexts: [context] });
  await session.write(SIZE + 8192, noise(4096, 2));
  const { extents } = succeed(await session.ask({ type: CMD.BLOCK_STATUS, offset: 0, length: 2 * SIZE }));
  expect(extents.get(context)).toEqual([
    [8192, 0],
    [8192, 1],
    [SIZE - 16384, 0],
    // Growing allocates the block behind the end of the base.
    [1024, 1],
    [7168, 0],
    [4096, 1],
    [SIZE - 12288, 0],
  ]);
  await session.goodbye();
  await server.stop();
});

test("a fork that is refused, or that cannot be opened, leaves its parent as it was", async () => {
  const server = await serveDisk("par");
  const image = await write(server, "par", 1);
  const before = readFileSync(at("par.stack"), "utf8");
  makeImage(at("taken.cow"), noise(100, 1));
  for (const [code, request] of [
    ["exists", { as: "par" }],
    ["usage", { as: "par@x" }],
    ["usage", { as: "kid", cowfile: at("kid.img"), stackFile: at("kid.img") }],
    ["usage", { as: "kid", cowfile: at("par-kid.cow") }],
    ["exists", { as: "kid", cowfile: at("taken.cow") }],
    ["usage", { as: "kid", cowfile: at("par.cow") }],
    ["not-found", { as: "kid", cowfile: at("nowhere/kid.cow") }],
  ] as const)
    await expect(server.history.fork("par", request)).rejects.toMatchObject({ code });
  expect(readFileSync(at("par.stack"), "utf8")).toBe(before);
  vi.spyOn(server.exports, "add").mockRejectedValueOnce(new CowError("io", "cannot open"));
  await expect(server.history.fork("par", { as: "kid" })).rejects.toMatchObject({ code: "io" });
  expect([at("kid.stack"), at("kid.cow")].filter(existsSync)).toEqual([]);
  expect(layersOf("par").some(({ shared }) => shared)).toBe(false);
  expect(await server.history.fork("par", { as: "kid" })).toMatchObject({ checkpoint: "kid" });
  expect(layersOf("kid").at(-1)).toEqual({ file: "kid.cow" });
  expect((await read(server, "kid")).equals(image)).toBe(true);
  await server.stop();
});
