/**
 * Proves what a server counts: exactly what clients did, in threads and on the event loop, however data is sent; what a
 * limit does to waiting clients, and to nobody else; and a quota as clients meet it.
 */
import { readFileSync, truncateSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import { openCowfile } from "../../../src/lib/formats/cowfile/layer.ts";
import type { ExportMeter, ExportStats } from "../../../src/lib/nbd/meter/export-meter.ts";
import { STYLES } from "../../support/nbd/raw-client.ts";
import { type Ask, CMD, ERR, FLAG, RawSession, succeed } from "../../support/nbd/raw-session.ts";
import { makeCowfile, makeImage, startServing, type TestServer } from "../../support/nbd/test-server.ts";
import { noise, random } from "../../support/random.ts";
import { runs } from "../../support/sample.ts";
import { scratchDirectory } from "../../support/scratch.ts";
import { deviceOfFile } from "../../support/storage/memory-files.ts";

const KIB = 1024;
/** The unit of a cowfile. */
const BLOCK = 1024;
const SIZE = 2048 * KIB;
/** More than have a thread of their own. */
const CLIENTS = 12;

const at = scratchDirectory();
let server: TestServer | undefined;
let count = 0;

afterEach(async () => {
  await server?.stop();
  server = undefined;
});

/** Serves a base of noise with empty cowfiles over it; all of it is in the page cache. */
async function serveFresh({
  layers = 1,
  exports = 1,
  quotaBytes = undefined as number | undefined,
} = {}): Promise<TestServer> {
  const name = `m${count++}`;
  const base = at(`${name}.img`);
  makeImage(base, noise(SIZE, 9));
  readFileSync(base);
  const stacks: { name: string; stack: string }[] = [];
  for (let i = 0; i < exports; i++) {
    let stack = base;
    for (let layer = 0; layer < layers; layer++)
      stack = `${stack},${await makeCowfile(stack, at(`${name}-${i}-${layer}.cow`))}`;
    stacks.push({ name: i === 0 ? "" : `e${i}`, stack });
  }
  server = await startServing(at, stacks, quotaBytes === undefined ? {} : { quotaBytes });
  return server;
}

function meterOf(of: TestServer, name = ""): ExportMeter {
  const { served } = of.exports.get(name);
  if (!served) throw new Error("not open");
  return served.meter;
}

/** What does not follow from the requests. */
function withoutLatency({ latency: _, ...rest }: ExportStats): Omit<ExportStats, "latency"> {
  return rest;
}

describe.each(STYLES)("counts, %s replies", (style) => {
  test("are what several clients did, refused requests aside", async () => {
    const served = await serveFresh();
    const meter = meterOf(served);
    const next = random(7);
    const wanted = { reads: 0, writes: 0, trims: 0, zeroes: 0, flushes: 0, bytesRead: 0, bytesWritten: 0, errors: 0 };
    const perform = async (session: RawSession): Promise<void> => {
      const asks: Ask[] = Array.from({ length: 1 + Math.floor(next() * 40) }, () => {
        const length = 1 + Math.floor(next() * (next() < 0.9 ? 9000 : 700 * KIB));
        const offset = Math.floor(next() * (SIZE - length));
        const chance = next();
        if (chance < 0.5) return { type: CMD.READ, offset, length };
        if (chance < 0.75)
          return { type: CMD.WRITE, offset, payload: noise(length, 3), flags: chance < 0.52 ? FLAG.FUA : 0 };
        if (chance < 0.8) return { type: CMD.TRIM, offset, length };
        if (chance < 0.85) return { type: CMD.WRITE_ZEROES, offset, length };
        if (chance < 0.9) return { type: CMD.FLUSH };
        return { type: chance < 0.95 ? CMD.READ : CMD.WRITE_ZEROES, offset: SIZE, length };
      });
      for (const [i, { error }] of (await session.all(...asks)).entries()) {
        const { type, length = 0, payload } = asks[i] ?? { type: CMD.FLUSH };
        if (error !== 0) wanted.errors++;
        else if (type === CMD.READ) wanted.reads++;
        else if (type === CMD.WRITE) wanted.writes++;
        else if (type === CMD.TRIM) wanted.trims++;
        else if (type === CMD.WRITE_ZEROES) wanted.zeroes++;
        else wanted.flushes++;
        if (error === 0 && type === CMD.READ) wanted.bytesRead += Number(length);
        if (error === 0 && type === CMD.WRITE) wanted.bytesWritten += payload?.length ?? 0;
      }
      // A client that has its replies finds them counted.
      expect(meter.snapshot()).toMatchObject(wanted);
    };
    const clients = style === "structured" ? CLIENTS : 2;
    const sessions = await Promise.all(Array.from({ length: clients }, () => RawSession.open(served.socket, style)));
    for (const session of sessions) for (let round = 0; round < runs(2); round++) await perform(session);
    expect(meter.snapshot().connections).toBe(clients);
    const [first, ...others] = sessions;
    await Promise.all(others.map((session) => session.goodbye()));
    const before = withoutLatency(meter.snapshot());
    if (first) await perform(first);
    await first?.goodbye();
    expect(meter.snapshot()).toMatchObject(wanted);
    expect(before.baseReads).toBeGreaterThan(0);
    const { read, write, flush } = meter.latencies();
    expect([read.count, write.count, flush.count]).toEqual([wanted.reads, wanted.writes, wanted.flushes]);
    const { blocksAllocated } = meter.snapshot();
    const { stack } = served.exports.get("").settings;
    await served.stop();
    server = undefined;
    const cowfile = String(stack).split(",")[1] ?? "";
    const { head } = openCowfile(deviceOfFile(cowfile));
    expect(Number(head.used)).toBe(blocksAllocated);
    expect(meter.snapshot()).toMatchObject({ connections: 0, unflushedBytes: 0 });
  });

  test("say which level of the stack was read, once for each request", async () => {
    const served = await serveFresh({ layers: 2 });
    const session = await RawSession.open(served.socket, style);
    const levels = (): readonly number[] => {
      const { baseReads, layerReads } = meterOf(served).snapshot();
      return [baseReads, ...layerReads];
    };
    await session.read(0, 4 * BLOCK);
    await session.read(0, 900 * KIB);
    expect(levels()).toEqual([2, 0, 0]);
    await session.write(0, noise(BLOCK, 1));
    await session.write(2 * BLOCK, noise(BLOCK, 1));
    expect(levels()).toEqual([2, 0, 0]);
    await session.read(0, BLOCK);
    await session.read(0, 4 * BLOCK);
    expect(levels()).toEqual([3, 0, 2]);
    // The rest of two blocks is copied up, from one level.
    await session.write(8 * BLOCK + 100, noise(3 * BLOCK, 1));
    expect(levels()).toEqual([4, 0, 2]);
    // As they come together, most go out of mapped memory.
    const asks = Array.from({ length: 100 }, (_, i) => ({ type: CMD.READ, offset: (i % 2) * BLOCK, length: BLOCK }));
    for (const answer of await session.all(...asks)) succeed(answer);
    expect(levels()).toEqual([54, 0, 52]);
    await session.goodbye();
  });
});

test.each(["simple", "structured"] as const)(
  "errors are the requests that were answered with one, wherever it happened, %s replies",
  async (style) => {
    const served = await serveFresh();
    const session = await RawSession.open(served.socket, style);
    const asks = Array.from({ length: 64 }, (_, i) => ({ type: CMD.READ, offset: i * 32 * KIB, length: 8 * KIB }));
    for (const answer of await session.all(...asks)) succeed(answer);
    truncateSync(String(served.exports.get("").settings.stack).split(",")[0] ?? "", 1024 * KIB + 100);
    const errors = (await session.all(...asks)).filter(({ error }) => error !== 0).length;
    expect(errors).toBeGreaterThanOrEqual(31);
    expect(meterOf(served).snapshot().errors).toBe(errors);
    session.client.leave();
    await served.stop().catch(() => undefined);
    server = undefined;
  },
);

test("unflushed bytes are those that no flush of any client has covered", async () => {
  const served = await serveFresh();
  const meter = meterOf(served);
  const unflushed = (): number => meter.snapshot().unflushedBytes;
  const [one, two] = await Promise.all([0, 1].map(() => RawSession.open(served.socket, "structured")));
  if (!one || !two) throw new Error("two clients");
  await one.write(0, noise(5000, 1));
  await two.write(SIZE / 2, noise(300, 1));
  await two.ask({ type: CMD.WRITE_ZEROES, offset: 0, length: BLOCK });
  expect(unflushed()).toBe(5000 + 300 + BLOCK);
  succeed(await two.ask({ type: CMD.FLUSH }));
  expect(unflushed()).toBe(0);
  await one.write(0, noise(70, 1));
  await two.write(100, noise(30, 1), FLAG.FUA);
  expect(unflushed()).toBe(0);
  const asks = [{ type: CMD.WRITE, offset: 0, payload: noise(10, 1) }, { type: CMD.FLUSH }];
  await one.all(...asks, { type: CMD.WRITE, offset: 5000, payload: noise(20, 1) });
  expect(unflushed()).toBe(20);
  await served.exports.sync("");
  expect(unflushed()).toBe(0);
  await Promise.all([one.goodbye(), two.goodbye()]);
});

test("counts go on where an export is closed and opened again", async () => {
  const served = await serveFresh({ layers: 2 });
  const session = await RawSession.open(served.socket, "structured");
  await session.write(0, noise(5000, 1));
  await session.goodbye();
  const before = meterOf(served).snapshot();
  await served.exports.close("");
  await served.exports.reopen("", { access: "read-only" });
  expect(meterOf(served).snapshot()).toEqual({ ...before, unflushedBytes: 0 });
});

describe("a limit", () => {
  const asks = (count: number): Ask[] =>
    Array.from({ length: count }, () => ({ type: CMD.READ, offset: 0, length: 64 * KIB }));
  /** Hours for what is asked for here. */
  const SLOW = { bytesPerSecond: 1 };

  /** Clients of an export whose second request waits. */
  async function waiting(
    clients: number,
  ): Promise<{ of: TestServer; sessions: RawSession[]; answers: Promise<unknown>[] }> {
    const of = await serveFresh({ exports: 2 });
    meterOf(of).setLimit(SLOW);
    const sessions = await Promise.all(Array.from({ length: clients }, () => RawSession.open(of.socket, "structured")));
    const [first] = sessions;
    const answers: Promise<unknown>[] = [];
    // The first request is let in, of all clients together.
    if (first) succeed(await first.ask({ type: CMD.READ, offset: 0, length: 64 * KIB }));
    for (const session of sessions) answers.push(session.all(...asks(3)).catch((error: unknown) => error));
    return { of, sessions, answers };
  }

  test("keeps its clients waiting and no others, until it is taken away", async () => {
    const { of, sessions, answers } = await waiting(CLIENTS);
    const others = await Promise.all(
      Array.from({ length: 4 }, () => RawSession.open(of.socket, "structured", { name: "e1" })),
    );
    for (const other of others) for (const answer of await other.all(...asks(20))) succeed(answer);
    expect(meterOf(of).snapshot().reads).toBe(1);
    expect(meterOf(of).limits).toEqual({ iops: undefined, bytesPerSecond: 1 });
    meterOf(of).setLimit({});
    await Promise.all(answers);
    expect(meterOf(of).snapshot()).toMatchObject({ reads: 1 + 3 * CLIENTS, errors: 0 });
    await Promise.all([...sessions, ...others].map((session) => session.goodbye()));
  });

  test("does not keep clients from leaving, nor the server from its end", async () => {
    const { of, sessions, answers } = await waiting(CLIENTS);
    for (const { client } of sessions.slice(0, CLIENTS - 2)) client.leave();
    while (meterOf(of).snapshot().connections > 2) await new Promise((resolve) => setTimeout(resolve, 20));
    await of.stop();
    server = undefined;
    await Promise.all(answers);
  });

  test("lets flushes through", async () => {
    const of = await serveFresh();
    meterOf(of).setLimit({ iops: 1, ...SLOW });
    const session = await RawSession.open(of.socket, "structured");
    for (let i = 0; i < 20; i++) succeed(await session.ask({ type: CMD.FLUSH }));
    await session.goodbye();
  });
});

test("at its quota a cowfile takes no new blocks, and goes on with those it has; more can be allowed", async () => {
  const served = await serveFresh({ quotaBytes: 10 * BLOCK + 5 });
  const session = await RawSession.open(served.socket, "structured");
  await session.write(0, noise(8 * BLOCK, 1));
  const refused = await session.ask({ type: CMD.WRITE, offset: 8 * BLOCK, payload: noise(3 * BLOCK, 1) });
  expect(refused).toMatchObject({ error: ERR.ENOSPC, text: expect.stringContaining("quota") });
  await session.write(7 * BLOCK + 1, noise(3 * BLOCK - 1, 2));
  expect(meterOf(served).snapshot().blocksAllocated).toBe(10);
  expect((await session.ask({ type: CMD.WRITE, offset: 10 * BLOCK, payload: noise(1, 1) })).error).toBe(ERR.ENOSPC);
  await session.write(0, noise(10 * BLOCK, 3));
  expect((await session.read(0, 10 * BLOCK)).equals(noise(10 * BLOCK, 3))).toBe(true);
  served.exports.get("").served?.stack.usage?.setQuota(11 * BLOCK);
  await session.write(10 * BLOCK, noise(1, 1));
  expect((await session.ask({ type: CMD.WRITE, offset: 11 * BLOCK, payload: noise(1, 1) })).error).toBe(ERR.ENOSPC);
  expect(meterOf(served).snapshot()).toMatchObject({ errors: 3, blocksAllocated: 11 });
  await session.goodbye();
});
