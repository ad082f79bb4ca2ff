/**
 * Proves what holds for every command, against a running server in each style of replies: unknown commands and flags, FUA
 * everywhere, payloads where none belong, wrong magic numbers, goodbyes with requests in flight, requests in pieces.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { handshakeOf, RawClient, STYLES } from "../../support/nbd/raw-client.ts";
import { type Ask, CMD, ERR, FLAG, RawSession } from "../../support/nbd/raw-session.ts";
import { makeCowfile, makeImage, startServing, type TestServer } from "../../support/nbd/test-server.ts";
import { noise } from "../../support/random.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const MIB = 1 << 20;
const SIZE = 4 * MIB;

const at = scratchDirectory();
const base = Buffer.from(noise(SIZE, 1));
let server: TestServer;

beforeAll(async () => {
  makeImage(at("base.img"), base);
  await makeCowfile(at("base.img"), at("vm.cow"));
  server = await startServing(at, [
    { name: "", stack: `${at("base.img")},${at("vm.cow")}` },
    { name: "fixed", stack: at("base.img") },
  ]);
});

type Style = (typeof STYLES)[number];

const open = (style: Style, name = ""): Promise<RawSession> => RawSession.open(server.socket, style, { name });

/** The connection understands what comes next. */
async function expectAlive(session: RawSession): Promise<void> {
  const from = SIZE - 5000;
  expect((await session.read(from, 5000)).equals(base.subarray(from))).toBe(true);
  expect(await session.goodbye()).toHaveLength(0);
}

describe.each(STYLES)("with %s replies", (style) => {
  test.each([8, 9, 255, 0x7fff, 0xffff])("command %d, which nobody knows, is EINVAL", async (type) => {
    const session = await open(style);
    const answers = await session.all(
      { type },
      { type, length: 512, flags: FLAG.FUA },
      { type, offset: 2n ** 64n - 1n },
    );
    expect(answers.map(({ error }) => error)).toEqual([ERR.EINVAL, ERR.EINVAL, ERR.EINVAL]);
    if (style !== "simple") expect(answers[0]?.text).toContain(`${type}`);
    await expectAlive(session);
  });

  test("a flag that a command does not take is EINVAL, whichever", async () => {
    const session = await open(style);
    const takes: Record<number, number> = {
      [CMD.READ]: style === "simple" ? FLAG.FUA : FLAG.FUA | FLAG.DF,
      [CMD.FLUSH]: FLAG.FUA,
      [CMD.CACHE]: FLAG.FUA,
    };
    for (const [type, taken] of Object.entries(takes)) {
      for (let bit = 0; bit < 16; bit++) {
        // With extended headers, this one announces a payload.
        if (1 << bit === FLAG.PAYLOAD_LEN && style === "extended") continue;
        const { error } = await session.ask({ type: Number(type), flags: 1 << bit, length: type === "3" ? 0 : 512 });
        expect(error, `command ${type}, flag bit ${bit}`).toBe((taken >> bit) & 1 ? 0 : ERR.EINVAL);
      }
    }
    await expectAlive(session);
  });

  test("FUA is accepted on every command", async () => {
    const session = await RawSession.open(server.socket, style, {
      contexts: style === "simple" ? [] : ["base:allocation"],
    });
    for (const type of Object.values(CMD)) {
      if (type === CMD.DISC) continue;
      const ask: Ask = { type, flags: FLAG.FUA, offset: 1024, length: type === CMD.FLUSH ? 0 : 100 };
      const { error } = await session.ask(type === CMD.WRITE ? { ...ask, payload: base.subarray(1024, 1124) } : ask);
      expect(error, `command ${type}`).toBe(type === CMD.BLOCK_STATUS && style === "simple" ? ERR.EINVAL : 0);
    }
    await expectAlive(session);
  });

  test.each([0, 0x25609512, 0x67446698, 0x668e33ef, style === "extended" ? 0x25609513 : 0x21e41c71])(
    "magic number %d ends the connection, after what came before was answered",
    async (magic) => {
      const session = await open(style);
      const nonsense = session.head({ type: CMD.READ, length: 512 });
      nonsense.writeUInt32BE(magic);
      const answers = session.all({ type: CMD.READ, length: 3 * MIB }, { type: CMD.FLUSH });
      void session.client.send(nonsense, session.head({ type: CMD.FLUSH }));
      expect((await answers).map(({ error }) => error)).toEqual([0, 0]);
      expect(await session.client.end()).toHaveLength(0);
      session.client.leave();
    },
  );

  test("DISC has no reply; what was asked before is answered, what comes behind is not looked at", async () => {
    const session = await open(style);
    const payload = base.subarray(0, 300_000);
    const answers = session.all(
      { type: CMD.WRITE, offset: 0, payload },
      { type: CMD.READ, offset: 7, length: 2 * MIB },
      { type: CMD.FLUSH },
    );
    void session.client.send(session.head({ type: CMD.DISC }), session.head({ type: CMD.READ, length: 512 }));
    expect((await answers).map(({ error }) => error)).toEqual([0, 0, 0]);
    expect(await session.client.end()).toHaveLength(0);
    session.client.leave();
  });

  test("a client that has closed its side still gets all answers to what it asked", async () => {
    const session = await open(style);
    const asks = Array.from({ length: 30 }, (_, i) => ({ type: CMD.READ, offset: i, length: MIB }));
    const answers = session.all(...asks, { type: CMD.FLUSH });
    session.client.finish();
    for (const [i, { data }] of (await answers).slice(0, 30).entries())
      expect(data.equals(base.subarray(i, i + MIB))).toBe(true);
    expect(await session.client.end()).toHaveLength(0);
    session.client.leave();
  });

  test("requests come one byte at a time", async () => {
    const session = await open(style);
    const payload = base.subarray(3000, 3300);
    const asks = [
      { type: CMD.READ, offset: 5, length: 9 },
      { type: CMD.WRITE, offset: 3000, payload },
      { type: CMD.WRITE, offset: SIZE, payload },
      { type: CMD.READ, offset: 3000, length: 300 },
    ];
    const [first, written, refused, last] = await session.dribble(...asks);
    expect(first?.data).toEqual(base.subarray(5, 14));
    expect([written?.error, refused?.error]).toEqual([0, ERR.ENOSPC]);
    expect(last?.data).toEqual(payload);
    await expectAlive(session);
  });

  test("the handshake comes one byte at a time, too, and a request rides on its last packet", async () => {
    const client = await RawClient.connect(server.socket);
    const said = Buffer.concat(handshakeOf(style));
    await client.dribble(said.subarray(0, -1));
    const probe = new RawSession(client, { style, sizeBytes: 0n, flags: 0, contexts: new Map() });
    const request = probe.head({ type: CMD.READ, offset: 11, length: 700, cookie: 77n });
    await client.send(said.subarray(-1), request, request);
    await client.greeting();
    while ((await client.optionReply()).option !== 7);
    while ((await client.optionReply()).type !== 1);
    const headBytes = { simple: 16, structured: 20 + 8, extended: 32 + 8 }[style];
    for (let i = 0; i < 2; i++) {
      await client.read(headBytes);
      expect(await client.read(700)).toEqual(base.subarray(11, 711));
    }
    client.leave();
  });
});

describe("payloads where none belong, with extended headers", () => {
  test.each([CMD.READ, CMD.FLUSH, CMD.TRIM, CMD.CACHE, CMD.WRITE_ZEROES, CMD.BLOCK_STATUS, 200])(
    "command %d: the payload is drained, the answer is EINVAL",
    async (type) => {
      const session = await open("extended");
      for (const length of [1, 12, 4096, 2 * MIB]) {
        const ask = { type, flags: FLAG.PAYLOAD_LEN, payload: Buffer.alloc(length, 0x25) };
        const [answer, next] = await session.all(ask, { type: CMD.READ, offset: 5, length: 10 });
        expect(answer?.error).toBe(ERR.EINVAL);
        expect(next?.data).toEqual(base.subarray(5, 15));
      }
      await expectAlive(session);
    },
  );
});

test("every command but those that change is answered on a read-only export", async () => {
  for (const style of STYLES) {
    const session = await open(style, "fixed");
    const asks = [CMD.READ, CMD.FLUSH, CMD.CACHE].map((type) => ({ type, length: type === CMD.FLUSH ? 0 : 512 }));
    expect((await session.all(...asks)).map(({ error }) => error)).toEqual([0, 0, 0]);
    await expectAlive(session);
  }
});

test("flags promise what the commands keep", async () => {
  for (const style of STYLES) {
    const [writable, fixed] = [await open(style), await open(style, "fixed")];
    const df = style === "simple" ? 0 : 1 << 7;
    expect(writable.terms.flags).toBe(0b1101_0110_1101 | df);
    expect(fixed.terms.flags).toBe(0b0101_0000_0111 | df);
    expect([writable.terms.sizeBytes, fixed.terms.sizeBytes]).toEqual([BigInt(SIZE), BigInt(SIZE)]);
    await Promise.all([writable.goodbye(), fixed.goodbye()]);
  }
});
