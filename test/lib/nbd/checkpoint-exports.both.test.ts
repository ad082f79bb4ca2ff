/**
 * Proves the exports NAME@CHECKPOINT against a running server: they are listed, show the disk as it was while it goes on being
 * written, are opened when asked for without opening a file, and closed when no client uses them.
 */
import { beforeAll, expect, test, vi } from "vitest";
import { nodeStorage } from "../../../src/lib/index.ts";
import { ExportMeter } from "../../../src/lib/nbd/meter/export-meter.ts";
import { CheckpointViews } from "../../../src/lib/nbd/server/checkpoint-views.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { DISK_BYTES, KIB, type MadeDisk, makeDisk } from "../../support/images/checkpoints.ts";
import { OPT, option } from "../../support/nbd/handshake-client.ts";
import { RawClient } from "../../support/nbd/raw-client.ts";
import { CMD, ERR, RawSession, succeed } from "../../support/nbd/raw-session.ts";
import { startServing } from "../../support/nbd/test-server.ts";
import { noise } from "../../support/random.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const at = scratchDirectory();
const SINCE = "qemu:dirty-bitmap:since-";
let disk: MadeDisk;

beforeAll(async () => {
  disk = await makeDisk(at, "vm", [
    { writes: [{ offset: 0, length: 10 * KIB, seed: 2 }], checkpoint: "mon" },
    { writes: [{ offset: 5 * KIB, length: 10 * KIB, seed: 3 }], checkpoint: "tue" },
    { writes: [{ offset: 8 * KIB, length: 10 * KIB, seed: 4 }] },
  ]);
});

async function listed(socket: string): Promise<string[]> {
  const client = await RawClient.connect(socket);
  await client.greeting();
  await client.send(Buffer.of(0, 0, 0, 3), option(OPT.LIST));
  const names: string[] = [];
  for (;;) {
    const { type, data } = await client.optionReply();
    if (type !== 2) break;
    names.push(data.toString("utf8", 4, 4 + data.readUInt32BE(0)));
  }
  client.leave();
  return names;
}

test("each checkpoint is an export that is read-only and shows the disk as it was, while that goes on being written", async () => {
  const server = await startServing(at, [
    { name: "", stack: disk.files[0] ?? "" },
    { name: "vm", stack: disk.stack },
  ]);
  expect(await listed(server.socket)).toEqual(["", "vm", "vm@mon", "vm@tue"]);
  const writer = await RawSession.open(server.socket, "structured", { name: "vm" });
  for (const [level, name] of [
    [1, "vm@mon"],
    [2, "vm@tue"],
  ] as const) {
    await writer.write(4 * KIB, noise(12 * KIB, 10 + level));
    const reader = await RawSession.open(server.socket, "structured", { name });
    expect(reader.terms).toMatchObject({ sizeBytes: BigInt(DISK_BYTES) });
    expect((await reader.read(0, DISK_BYTES)).equals(disk.contents[level] ?? Buffer.alloc(0))).toBe(true);
    expect((await reader.ask({ type: CMD.WRITE, offset: 0, length: 1, payload: noise(1, 1) })).error).toBe(ERR.EPERM);
    await reader.goodbye();
  }
  for (const name of ["vm@wed", "vm@", "@mon", "vm@mon@mon", "no@mon"])
    await expect(RawSession.open(server.socket, "structured", { name })).rejects.toThrow(/no export/);
  await writer.goodbye();
  await server.stop();
});

test("a checkpoint that is made while it runs is an export at once, and the changes since then are marked", async () => {
  const made = await makeDisk(at, "live", [
    { writes: [{ offset: 0, length: 10 * KIB, seed: 2 }], checkpoint: "mon" },
    { writes: [] },
  ]);
  const server = await startServing(at, [{ name: "vm", stack: made.stack }]);
  const early = await RawSession.open(server.socket, "structured", {
    name: "vm",
    contexts: [`${SINCE}mon`, `${SINCE}now`],
  });
  const content = Buffer.from(made.contents.at(-1) ?? "");
  const write = async (block: number): Promise<void> => {
    const bytes = noise(KIB, 100 + block);
    await early.write(block * KIB, bytes);
    content.set(bytes, block * KIB);
  };
  const marked = async (session: RawSession, context: string): Promise<number[]> => {
    const { extents } = succeed(await session.ask({ type: CMD.BLOCK_STATUS, offset: 0, length: DISK_BYTES }));
    let offset = 0;
    return (extents.get(context) ?? []).flatMap(([length, flags]) => {
      offset += length;
      return flags === 0 ? [] : Array.from({ length: length / KIB }, (_, i) => (offset - length) / KIB + i);
    });
  };
  await write(20);
  const { exports } = await server.history.checkpoint(["vm"], { as: "now" });
  expect(exports).toHaveLength(1);
  expect(await listed(server.socket)).toEqual(["vm", "vm@mon", "vm@now"]);
  const then = Buffer.from(content);
  await write(30);
  const reader = await RawSession.open(server.socket, "structured", { name: "vm@now", contexts: [`${SINCE}mon`] });
  expect((await reader.read(0, DISK_BYTES)).equals(then)).toBe(true);
  expect(await marked(reader, `${SINCE}mon`)).toEqual([20]);
  expect(await marked(early, `${SINCE}mon`)).toEqual([20, 30]);
  const late = await RawSession.open(server.socket, "structured", { name: "vm", contexts: [`${SINCE}now`] });
  expect(await marked(late, `${SINCE}now`)).toEqual([30]);
  expect((await late.read(0, DISK_BYTES)).equals(content)).toBe(true);
  await early.goodbye();

  // Dropped: who reads it can do so to its end, what changed since is no longer told, and no other client gets in.
  await server.history.drop("vm", "now");
  expect(await listed(server.socket)).toEqual(["vm", "vm@mon"]);
  expect((await late.ask({ type: CMD.BLOCK_STATUS, offset: 0, length: DISK_BYTES })).error).toBe(ERR.EIO);
  expect((await reader.read(0, DISK_BYTES)).equals(then)).toBe(true);
  await expect(RawSession.open(server.socket, "structured", { name: "vm@now" })).rejects.toThrow(/no export/);
  await late.goodbye();

  // A rollback has to wait for those who read a checkpoint, too.
  await expect(server.history.rollback("vm", { checkpoint: "mon" })).rejects.toMatchObject({ code: "locked" });
  await reader.goodbye();
  await server.history.rollback("vm", { checkpoint: "mon" });
  const back = await RawSession.open(server.socket, "structured", { name: "vm", contexts: [`${SINCE}mon`] });
  expect(await marked(back, `${SINCE}mon`)).toEqual([]);
  expect((await back.read(0, DISK_BYTES)).equals(made.contents[1] ?? Buffer.alloc(0))).toBe(true);
  await back.goodbye();
  await server.stop();
});

test("a checkpoint has the contexts of those before it", async () => {
  const server = await startServing(at, [{ name: "vm", stack: disk.stack }], { readOnly: true });
  const contexts = [`${SINCE}mon`, `${SINCE}tue`];
  const session = await RawSession.open(server.socket, "structured", { name: "vm@tue", contexts });
  expect([...session.terms.contexts.values()]).toEqual([`${SINCE}mon`]);
  const answer = succeed(await session.ask({ type: CMD.BLOCK_STATUS, offset: 0, length: DISK_BYTES }));
  expect(answer.extents.get(`${SINCE}mon`)).toEqual([
    [5 * KIB, 0],
    [10 * KIB, 1],
    [DISK_BYTES - 15 * KIB, 0],
  ]);
  await session.goodbye();
  await server.stop();
});

test("one is opened over the files that are open, for all clients once, and closed when it was not asked for in a while", async () => {
  const opened: string[] = [];
  const open: typeof nodeStorage.open = (path, options) => {
    opened.push(path);
    return nodeStorage.open(path, options);
  };
  const stack = await ServedStack.open({ ...nodeStorage, open }, disk.stack, { access: "read-only" });
  opened.length = 0;
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] });
  const closed: number[] = [];
  let number = 7;
  const host = { newNumber: () => number++, onClosed: (each: number) => void closed.push(each) };
  const views = new CheckpointViews(host, "vm", new ExportMeter());
  const first = views.find(stack, "mon");
  expect(views.find(stack, "mon")).toBe(first);
  const second = views.find(stack, "tue");
  expect(opened).toEqual([]);
  vi.advanceTimersByTime(6000);
  const user = { stop: () => undefined, kill: () => undefined, ended: Promise.resolve() };
  second?.users.add(user);
  vi.advanceTimersByTime(60_000);
  expect(closed).toEqual([7]);
  expect(views.open).toEqual([second]);
  // What a client uses stays whole, whatever becomes of the stack.
  stack.close();
  const bytes = new Uint8Array(DISK_BYTES);
  second?.image.read(bytes, 0);
  expect(Buffer.from(bytes).equals(disk.contents[2] ?? Buffer.alloc(0))).toBe(true);
  second?.users.delete(user);
  vi.advanceTimersByTime(60_000);
  expect(closed).toEqual([7, 8]);
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});
