/**
 * Proves checkpoints of running exports: clients that write while they are made lose nothing, each checkpoint is all of their
 * writes up to one instant, for all exports alike, and the files that are left say so.
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { create } from "../../../src/lib/index.ts";
import { contentOf } from "../../support/nbd/left-behind.ts";
import { NumberedWriter } from "../../support/nbd/numbered-writer.ts";
import { RawSession } from "../../support/nbd/raw-session.ts";
import { makeImage, startServing, type TestServer } from "../../support/nbd/test-server.ts";
import { noise } from "../../support/random.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const MIB = 1 << 20;
const SIZE = 4 * MIB;
const BLOCKS = 24;
const at = scratchDirectory();

async function makeDisk(name: string): Promise<string> {
  makeImage(at(`${name}.img`), noise(64 << 10, 1), SIZE);
  await create(at(`${name}.img`), at(`${name}.cow`), { stackFile: at(`${name}.stack`) });
  return `stack:${at(`${name}.stack`)}`;
}

interface Listed {
  readonly base: { readonly file: string };
  readonly layers: readonly { readonly file: string; readonly checkpoint?: { readonly name: string } }[];
  readonly pending?: unknown;
}

function listed(name: string): Listed {
  return JSON.parse(readFileSync(at(`${name}.stack`), "utf8")) as Listed;
}

/** What each checkpoint holds, and the disk itself under the name "". */
async function contents(name: string): Promise<ReadonlyMap<string, Buffer>> {
  const { base, layers } = listed(name);
  const directory = dirname(at(`${name}.stack`));
  const all = new Map<string, Buffer>();
  for (const [i, { checkpoint }] of layers.entries()) {
    const files = [base, ...layers.slice(0, i + 1)].map(({ file }) => join(directory, file));
    if (checkpoint || i === layers.length - 1) all.set(checkpoint?.name ?? "", await contentOf(...files));
  }
  return all;
}

interface Instant {
  readonly replied: readonly number[];
  readonly sent: readonly number[];
}

/** Makes a checkpoint, with what was replied to before it began and sent before it was made. */
async function checkpoint(
  server: TestServer,
  names: readonly string[],
  as: string,
  writers: readonly NumberedWriter[],
) {
  const replied = writers.map((writer) => writer.replied);
  const made = await server.history.checkpoint(names, { as });
  const instant: Instant = { replied, sent: writers.map(({ sent }) => sent) };
  return { made, instant };
}

function expectInstant(
  image: Buffer | undefined,
  writers: readonly NumberedWriter[],
  { replied, sent }: Instant,
): void {
  if (!image) throw new Error("no such checkpoint");
  for (const [i, writer] of writers.entries()) {
    const last = writer.lastIn(image);
    expect(last).toBeGreaterThanOrEqual(replied[i] ?? 0);
    expect(last).toBeLessThanOrEqual(sent[i] ?? 0);
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

test("four clients write while checkpoints are made: each is one instant, and nothing is lost", async () => {
  const server = await startServing(at, [{ name: "a", stack: await makeDisk("a") }]);
  const offsets = [1, 2, 3, 3.5].map((mib) => mib * MIB);
  const writers = await Promise.all(offsets.map((offset) => NumberedWriter.enter(server.socket, "a", offset, BLOCKS)));
  const running = writers.map((writer) => writer.run());
  const instants = new Map<string, Instant>();
  for (const name of ["one", "two", "three"]) {
    await pause(40);
    const { made, instant } = await checkpoint(server, ["a"], name, writers);
    expect(made).toMatchObject({ checkpoint: name, exports: [{ name: "a" }] });
    instants.set(name, instant);
  }
  await pause(40);
  for (const writer of writers) writer.stop();
  await Promise.all(running);
  const reader = await RawSession.open(server.socket, "structured", { name: "a" });
  const image = await reader.read(0, SIZE);
  expect(writers.map((writer) => writer.lastIn(image))).toEqual(writers.map(({ replied }) => replied));
  await reader.goodbye();
  for (const writer of writers) await writer.leave();
  await server.stop();
  expect(server.notices).toEqual([]);
  const found = await contents("a");
  expect([...found.keys()]).toEqual(["one", "two", "three", ""]);
  for (const [name, instant] of instants) expectInstant(found.get(name), writers, instant);
  expect(found.get("")?.equals(image)).toBe(true);
  for (const { file } of listed("a").layers) expect(existsSync(`${at(file)}.journal`)).toBe(false);
});

test("two exports have one instant, also over TLS' way and with more connections than threads of their own", async () => {
  const server = await startServing(at, [
    { name: "b", stack: await makeDisk("b") },
    { name: "c", stack: await makeDisk("c") },
  ]);
  const each = Array.from({ length: 20 }, (_, i) => ({
    name: i % 2 === 0 ? "b" : "c",
    offset: MIB + (i >> 1) * 256 * 1024,
  }));
  const writers = await Promise.all(
    each.map(({ name, offset }) => NumberedWriter.enter(server.socket, name, offset, 8)),
  );
  const running = writers.map((writer) => writer.run());
  await pause(50);
  const { made, instant } = await checkpoint(server, ["c", "b"], "both", writers);
  expect(made.exports.map(({ name }) => name)).toEqual(["c", "b"]);
  await pause(20);
  for (const writer of writers) writer.stop();
  await Promise.all(running);
  for (const writer of writers) await writer.leave();
  await server.stop();
  for (const name of ["b", "c"]) {
    const of = (_: unknown, i: number): boolean => each[i]?.name === name;
    const found = (await contents(name)).get("both");
    expectInstant(found, writers.filter(of), { replied: instant.replied.filter(of), sent: instant.sent.filter(of) });
    expect(listed(name).pending).toBeUndefined();
  }
});

test("a client that does not read its replies holds up no checkpoint, and gets its data afterwards", async () => {
  const server = await startServing(at, [{ name: "d", stack: await makeDisk("d") }]);
  const writer = await RawSession.open(server.socket, "structured", { name: "d" });
  await writer.write(0, noise(SIZE, 9));
  const slow = await RawSession.open(server.socket, "structured", { name: "d" });
  slow.client.socket.pause();
  const reads = Array.from({ length: 8 }, () => slow.read(0, SIZE));
  await pause(100);
  await server.history.checkpoint(["d"], { as: "now" });
  await writer.write(0, noise(SIZE, 10));
  slow.client.socket.resume();
  const valid = [noise(SIZE, 9), noise(SIZE, 10)].map((bytes) => Buffer.from(bytes));
  for (const read of reads) {
    const bytes = await read;
    for (let from = 0; from < SIZE; from += 4096)
      expect(valid.some((image) => image.subarray(from, from + 4096).equals(bytes.subarray(from, from + 4096)))).toBe(
        true,
      );
  }
  await slow.goodbye();
  await writer.goodbye();
  await server.stop();
  expect((await contents("d")).get("now")?.equals(noise(SIZE, 9))).toBe(true);
});

test("what has no stack file, or a name that is taken, is refused, and leaves nothing", async () => {
  makeImage(at("e.img"), noise(64 << 10, 1), SIZE);
  const stack = await makeDisk("f");
  const server = await startServing(at, [
    { name: "e", stack: at("e.img") },
    { name: "f", stack },
  ]);
  await expect(server.history.checkpoint(["f", "e"], { as: "x" })).rejects.toMatchObject({ code: "unsuitable" });
  await server.history.checkpoint(["f"], { as: "x" });
  const before = readFileSync(at("f.stack"), "utf8");
  await expect(server.history.checkpoint(["f"], { as: "x" })).rejects.toMatchObject({ code: "exists" });
  await expect(server.history.checkpoint(["f"], { as: "x/y" })).rejects.toMatchObject({ code: "usage" });
  expect(readFileSync(at("f.stack"), "utf8")).toBe(before);
  await server.stop();
});

test("layers are added to the map of owners as they are frozen, and reads go by it", async () => {
  const server = await startServing(at, [{ name: "deep", stack: await makeDisk("deep") }]);
  const session = await RawSession.open(server.socket, "structured", { name: "deep" });
  const pageOf = (i: number) => Buffer.alloc(4096, i + 1);
  const memories: (SharedArrayBuffer | undefined)[] = [];
  for (let i = 0; i < 6; i++) {
    await session.write(i * 4096, pageOf(i));
    if (i > 0) await session.write((i - 1) * 4096 + 1024, pageOf(i).subarray(0, 1024));
    await server.history.checkpoint(["deep"], { as: `c${i}` });
    memories.push(server.exports.get("deep").served?.stack.parts.lower.owners?.passed.owners.buffer);
  }
  const { lower } = server.exports.get("deep").served?.stack.parts ?? {};
  await lower?.owners?.complete;
  // The page that was written last is of one layer alone.
  expect([...(lower?.owners?.passed.owners.subarray(0, 8) ?? [])]).toEqual([255, 255, 255, 255, 255, 6, 0, 0]);
  // Too few layers at first, then one map that grows.
  expect([memories[1], new Set(memories.slice(2)).size]).toEqual([undefined, 1]);
  for (let i = 0; i < 6; i++) {
    const expected = pageOf(i);
    if (i < 5) expected.fill(i + 2, 1024, 2048);
    expect((await session.read(i * 4096, 4096)).equals(expected)).toBe(true);
  }
  await session.goodbye();
  await server.stop();
});
