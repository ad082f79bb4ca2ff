/**
 * Proves that a real server outlives rude and numerous clients: every prefix of a handshake and then nothing, thousands
 * that connect and leave, handshakes of rubbish, 64 clients at work at once. It hangs on none, keeps neither memory nor
 * descriptors, serves the next client as if nothing had been, and its cowfile is sound in the end.
 */
import { connect } from "node:net";
import { beforeAll, describe, expect, test } from "vitest";
import { check } from "../../../src/lib/index.ts";
import { atOnce, pause } from "../../support/command/real-process.ts";
import {
  EXTENDED,
  go,
  HELLO,
  info,
  listContexts,
  OPT,
  option,
  STRUCTURED,
  u32,
} from "../../support/nbd/handshake-client.ts";
import { portOf, type ServeProgram, serveProgram, until } from "../../support/nbd/program.ts";
import { handshakeOf, RawClient, STYLES, type Style } from "../../support/nbd/raw-client.ts";
import { CMD, RawSession } from "../../support/nbd/raw-session.ts";
import { makeCowfile, makeImage } from "../../support/nbd/test-server.ts";
import { noise, random } from "../../support/random.ts";
import { runs, SEED } from "../../support/sample.ts";
import { readAt, scratchDirectory } from "../../support/scratch.ts";

const MIB = 1 << 20;
const SIZE = 8 * MIB;
/** Of memory that is given back late, or never by the allocator; a leak in any of these tests would be more. */
const GROWTH_MIB = 200;
/** While many are there, each with its buffers, and some with a thread. */
const PEAK_GROWTH_MIB = 400;
const VISITS = runs(3000);
const MALFORMED = runs(400);
/** So that no two clients' areas begin or end with a block. */
const AREA = 100_003;
const WORKERS = 64;
const LIMIT_MS = 120_000;
/** Longer than the server waits before it starts a thread that nobody needs yet. */
const CALM_MS = 1500;

const at = scratchDirectory();
let onSocket: ServeProgram;
let onTcp: ServeProgram;
let port: number;
/** When the server has had its first clients, and its threads. */
let before: { readonly rssMib: number; readonly descriptors: number };

beforeAll(async () => {
  makeImage(at("base.img"), noise(MIB, 1), SIZE);
  await makeCowfile(at("base.img"), at("vm.cow"));
  // Rubbish meets the default export, where it can change nothing.
  const exports = [at("base.img"), "--export", `disk=${at("base.img")},${at("vm.cow")}`];
  onSocket = await serveProgram([...exports, "--socket", at("s")]);
  onTcp = await serveProgram([at("base.img"), "--listen", "127.0.0.1:0"]);
  port = portOf(onTcp.said());
  for (let i = 0; i < 10; i++) await expectServed();
  await visit(500);
  await allThreadsReady();
  before = { rssMib: onSocket.rssMib(), descriptors: onSocket.descriptors() };
});

/** Threads for further clients are started one by one while it is calm, and have descriptors of their own. */
async function allThreadsReady(): Promise<void> {
  for (let last = -1; last !== onSocket.descriptors(); ) {
    last = onSocket.descriptors();
    await pause(CALM_MS);
  }
}

/** Good clients of each style are served, at once, and see what they should. */
async function expectServed(where: string | number = at("s")): Promise<void> {
  await Promise.all(
    STYLES.map(async (style) => {
      const session = await RawSession.open(where, style);
      const got = await session.read(1000, 5000);
      expect(got.equals(readAt(at("base.img"), 1000, 5000))).toBe(true);
      expect(await session.goodbye()).toHaveLength(0);
    }),
  );
}

/** Connects and leaves, so many times. */
async function visit(times: number): Promise<void> {
  const one = (): Promise<boolean> =>
    new Promise((resolve, reject) => {
      const socket = connect(at("s"), () => socket.destroy());
      socket.once("close", (hadError) => resolve(!hadError));
      // EAGAIN: so many have come at once that the rest has to wait at the door.
      socket.once("error", (error) => {
        if (!("code" in error && error.code === "EAGAIN")) reject(error);
      });
    });
  for (let done = 0; done < times; ) {
    const came = await Promise.all(Array.from({ length: 50 }, one));
    done += came.filter((hasCome) => hasCome).length;
  }
}

/** Nobody is left over, nothing was kept, and the server is as good as ever. */
async function expectAsBefore(): Promise<void> {
  await until(() => onSocket.descriptors() <= before.descriptors + 2, "the last client's descriptor to be closed");
  await expectServed();
  expect(onSocket.rssMib() - before.rssMib).toBeLessThan(GROWTH_MIB);
  expect(onSocket.complained()).toBe("");
}

/** All that a client can say before and in transmission, and then goodbye. */
function conversation(style: Style): Buffer {
  const [hello, ...options] = handshakeOf(style, { contexts: style === "simple" ? [] : ["base:allocation"] });
  const request = (type: number, length: number): Buffer => {
    const head = Buffer.alloc(style === "extended" ? 32 : 28);
    head.writeUInt32BE(style === "extended" ? 0x21e41c71 : 0x25609513, 0);
    head.writeUInt16BE(type, 6);
    head.writeUInt32BE(length, style === "extended" ? 28 : 24);
    return head;
  };
  return Buffer.concat([
    hello ?? HELLO,
    option(OPT.LIST),
    info(OPT.INFO, "", [0, 3]),
    ...(style === "simple" ? [] : [listContexts("")]),
    ...options,
    request(CMD.READ, 512),
    request(CMD.DISC, 0),
  ]);
}

/** Says something, and leaves: as one who has gone, as one who listens to the end, as one whose machine went down. */
async function sayAndLeave(where: string | number, bytes: Uint8Array, how: "gone" | "ends" | "reset"): Promise<void> {
  const client = await RawClient.connect(where);
  await client.send(bytes);
  if (how === "gone") client.leave();
  else if (how === "reset") client.reset();
  else {
    client.finish();
    await client.end();
    client.leave();
  }
}

describe("rude clients", { timeout: LIMIT_MS }, () => {
  test.each(STYLES)("every prefix of a conversation, then nothing, with %s replies", async (style) => {
    const whole = conversation(style);
    const lengths = Array.from({ length: whole.length + 1 }, (_, i) => i);
    await atOnce(16, lengths, async (length) => {
      const bytes = whole.subarray(0, length);
      await sayAndLeave(at("s"), bytes, length % 2 === 0 ? "gone" : "ends");
      if (length % 3 === 0) await sayAndLeave(port, bytes, "reset");
    });
    await expectAsBefore();
    await expectServed(port);
  });

  test(`${VISITS} connect and leave`, async () => {
    await visit(VISITS);
    await expectAsBefore();
  });

  test(`${MALFORMED} handshakes of rubbish`, async () => {
    const next = random(SEED);
    const handshakes = Array.from({ length: MALFORMED }, () => malformed(next));
    await atOnce(16, handshakes, async (bytes, i) => {
      if (i % 10 === 9) await sayAndLeave(port, bytes, "reset");
      else await sayAndLeave(at("s"), bytes, i % 4 === 0 ? "gone" : "ends");
    });
    await expectAsBefore();
    await expectServed(port);
  });

  test("one that says nothing keeps nobody waiting", async () => {
    const silent = await Promise.all(Array.from({ length: 20 }, () => RawClient.connect(at("s"))));
    // A server that waited for the silent ones would never answer.
    await expectServed();
    for (const client of silent) client.leave();
    await expectAsBefore();
  });
});

/** Random bytes, bytes behind a proper start, or something proper with a few bytes changed, left out or doubled. */
function malformed(next: () => number): Buffer {
  const upTo = (most: number): number => Math.floor(next() * most);
  const garbage = (most: number): Buffer => Buffer.from(noise(upTo(most), upTo(2 ** 31)));
  const whole = conversation(STYLES[upTo(3)] ?? "simple");
  switch (upTo(6)) {
    case 0:
      return garbage(3000);
    case 1:
      return Buffer.concat([HELLO, garbage(3000)]);
    case 2:
      // An option of a length that nobody has.
      return Buffer.concat([HELLO, option(upTo(14), garbage(100), 2 ** 31 + upTo(2 ** 31)), garbage(2000)]);
    case 3:
      return Buffer.concat([HELLO, STRUCTURED, EXTENDED, option(upTo(14), garbage(200)), go("", upTo(65_536))]);
    case 4: {
      const [from, length] = [upTo(whole.length), upTo(40)];
      return Buffer.concat([whole.subarray(0, from), whole.subarray(from + length * upTo(2)), u32(upTo(2 ** 32))]);
    }
    default:
      for (let i = 0; i <= upTo(4); i++) whole[upTo(whole.length)] = upTo(256);
      return whole;
  }
}

describe("many clients", { timeout: LIMIT_MS }, () => {
  test(`${WORKERS} at once, each writing and reading its own area`, async () => {
    const sessions = await Promise.all(
      Array.from({ length: WORKERS }, (_, i) => RawSession.open(at("s"), STYLES[i % 3] ?? "simple", { name: "disk" })),
    );
    let peakMib = 0;
    await Promise.all(
      sessions.map(async (session, i) => {
        const offset = i * AREA;
        for (let round = 0; round < 8; round++) {
          const bytes = noise(AREA, 1000 * i + round);
          await session.write(offset, bytes, round % 4 === 3 ? 1 : 0);
          expect((await session.read(offset, AREA)).equals(bytes)).toBe(true);
          peakMib = Math.max(peakMib, onSocket.rssMib());
        }
      }),
    );
    expect(peakMib - before.rssMib).toBeLessThan(PEAK_GROWTH_MIB);
    // Neighbours have blocks in common.
    const all = await sessions[0]?.read(0, WORKERS * AREA);
    for (let i = 0; i < WORKERS; i++)
      expect(all?.subarray(i * AREA, (i + 1) * AREA).equals(noise(AREA, 1000 * i + 7)), `area ${i}`).toBe(true);
    await Promise.all(sessions.map((session) => session.goodbye()));
    await expectAsBefore();
  });

  test("and in the end the server ends in order, with a sound cowfile", async () => {
    const { status, signal, stderr } = await onSocket.stop();
    expect([status, signal, stderr]).toEqual([0, undefined, ""]);
    expect((await onTcp.stop()).status).toBe(0);
    const report = await check(at("vm.cow"), { rdofile: at("base.img") }, {});
    expect([report.state, ...report.problems]).toEqual(["clean"]);
  });
});
