/**
 * Proves what becomes of clients that end otherwise than by the book while requests are in flight, of those who are too
 * many, and of a server that is to end with its last client: nobody else notices, and what was asked only by half is not
 * done by half.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { pause } from "../../support/command/real-process.ts";
import { HELLO, info, OPT, option } from "../../support/nbd/handshake-client.ts";
import { expectClean } from "../../support/nbd/left-behind.ts";
import { portOf, type ServeProgram, serveProgram, until } from "../../support/nbd/program.ts";
import { RawClient, STYLES, type Style } from "../../support/nbd/raw-client.ts";
import { CMD, RawSession } from "../../support/nbd/raw-session.ts";
import { makeCowfile, makeImage } from "../../support/nbd/test-server.ts";
import { noise } from "../../support/random.ts";
import { readAt, scratchDirectory } from "../../support/scratch.ts";

const KIB = 1024;
const MIB = 1 << 20;
const SIZE = 8 * MIB;

const at = scratchDirectory();
const READS = Array.from({ length: 64 }, (_, i) => ({ type: CMD.READ, offset: (i % 8) * MIB, length: MIB }));

makeImage(at("base.img"), noise(SIZE, 1));
const base = readAt(at("base.img"), 0, SIZE);

const TRANSPORTS = ["a unix socket", "TCP"] as const;
type Transport = (typeof TRANSPORTS)[number];
const EXPORTS = 14;

/** An export over the base that no test has used yet. */
interface Place {
  readonly where: string | number;
  readonly name: string;
}

let count = 0;
const newCowfile = (): Promise<string> => makeCowfile(at("base.img"), at(`${count++}.cow`));

/** One server for many tests, as its threads take time to start; each test has a fresh export. */
class Places {
  readonly #transport: Transport;
  readonly #cowfiles: string[] = [];
  #server: ServeProgram | undefined;
  #next = 0;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async open(): Promise<void> {
    for (let i = 0; i < EXPORTS; i++) this.#cowfiles.push(await newCowfile());
    const exports = this.#cowfiles.flatMap((cowfile, i) => ["--export", `${i}=${at("base.img")},${cowfile}`]);
    const where = this.#transport === "TCP" ? ["--listen", "127.0.0.1:0"] : ["--socket", at("shared")];
    this.#server = await serveProgram([...exports, ...where]);
  }

  next(): Place {
    const name = `${this.#next++}`;
    return { name, where: this.#transport === "TCP" ? portOf(this.#server?.said() ?? "") : at("shared") };
  }

  /** Ends the server, which has had nothing to complain of; all its cowfiles are sound. */
  async close(): Promise<void> {
    const ended = await this.#server?.stop();
    expect([ended?.status, ended?.stderr]).toEqual([0, ""]);
    for (const cowfile of this.#cowfiles) await expectClean(cowfile, at("base.img"));
  }
}

function enter({ where, name }: Place, style: Style): Promise<RawSession> {
  return RawSession.open(where, style, { name });
}

/** The next client is served, and sees these bytes. */
async function expectSound(place: Place, style: Style, wanted: Uint8Array): Promise<void> {
  const session = await enter(place, style);
  expect(Buffer.compare(await session.read(0, SIZE), wanted)).toBe(0);
  await session.write(SIZE - 3000, noise(2500, 9));
  expect((await session.read(SIZE - 3000, 2500)).equals(noise(2500, 9))).toBe(true);
  expect(await session.goodbye()).toHaveLength(0);
}

/** The whole disk, once nothing changes any more: who has gone may have left requests behind. */
async function readSettled(place: Place): Promise<Buffer> {
  const reader = await enter(place, "simple");
  let last = await reader.read(0, SIZE);
  for (;;) {
    await pause(100);
    const got = await reader.read(0, SIZE);
    if (got.equals(last)) break;
    last = got;
  }
  await reader.goodbye();
  return last;
}

/** How a client may end; RST there is on TCP only. */
function leave(client: RawClient, transport: Transport): void {
  if (transport === "TCP") client.reset();
  else client.leave();
}

describe.each(TRANSPORTS)("a client on %s that ends otherwise than by the book", (transport) => {
  const places = new Places(transport);
  beforeAll(() => places.open());
  test.each(STYLES)("gone in the middle of a small WRITE has written nothing of it, with %s replies", async (style) => {
    const place = places.next();
    const session = await enter(place, style);
    await session.write(5 * MIB + 77, noise(10_000, 2));
    await session.client.send(session.head({ type: CMD.WRITE, offset: 100, length: MIB }), noise(MIB / 2, 3));
    await pause(30);
    leave(session.client, transport);
    const wanted = Buffer.from(base);
    wanted.set(noise(10_000, 2), 5 * MIB + 77);
    await expectSound(place, style, wanted);
  });

  test("gone in the middle of a large WRITE leaves every byte old or new", async () => {
    const place = places.next();
    const session = await enter(place, "structured");
    await session.read(0, 1);
    const [offset, length] = [100, 5 * MIB];
    const payload = noise(length, 3);
    await session.client.send(session.head({ type: CMD.WRITE, offset, length }), payload.subarray(0, 3_333_333));
    await pause(30);
    leave(session.client, transport);
    const got = await readSettled(place);
    const wrong = got.findIndex((byte, i) => byte !== base[i] && byte !== payload[i - offset]);
    expect(wrong).toBe(-1);
    expect(got.subarray(offset + 3_333_333).equals(base.subarray(offset + 3_333_333))).toBe(true);
    await expectSound(place, "simple", got);
  });

  test.each(STYLES)("gone with 64 READs that it never reads, with %s replies", async (style) => {
    const place = places.next();
    const session = await enter(place, style);
    session.client.socket.pause();
    for (const ask of READS) void session.client.send(session.head(ask));
    await pause(50);
    leave(session.client, transport);
    await expectSound(place, style, base);
  });

  test("gone with WRITEs whose answers it never reads: each is done wholly or not at all", async () => {
    const place = places.next();
    const session = await enter(place, "extended");
    await session.read(0, 1);
    session.client.socket.pause();
    const payloads = Array.from({ length: 100 }, (_, i) => noise(3000, i));
    for (const [i, payload] of payloads.entries())
      void session.client.send(session.head({ type: CMD.WRITE, offset: 50_001 * i, length: 3000 }), payload);
    await pause(20);
    leave(session.client, transport);
    const got = await readSettled(place);
    const wanted = Buffer.from(base);
    for (const [i, payload] of payloads.entries())
      if (got[50_001 * i] === payload[0] && got[50_001 * i + 1] === payload[1]) wanted.set(payload, 50_001 * i);
    expect(Buffer.compare(got, wanted)).toBe(0);
    await expectSound(place, "simple", got);
  });

  test("gone many times over, with something else in flight each time", async () => {
    const place = places.next();
    for (let i = 0; i < 24; i++) {
      const session = await enter(place, STYLES[i % 3] ?? "simple");
      session.client.socket.pause();
      const asks = [READS.slice(0, 4), [{ type: CMD.FLUSH }], [{ type: CMD.WRITE, offset: i, length: 70_000 }], []];
      for (const ask of asks[i % 4] ?? []) void session.client.send(session.head(ask));
      if (i % 5 === 0) await pause(5);
      leave(session.client, transport);
    }
    await expectSound(place, "extended", base);
  });

  test.each(STYLES)("after it has closed its side gets all that it asked for, with %s replies", async (style) => {
    const place = places.next();
    const session = await enter(place, style);
    const answers = session.all(...READS.slice(0, 40), { type: CMD.WRITE, offset: MIB - 5, payload: noise(20, 4) });
    session.client.finish();
    const all = await answers;
    for (const [i, { error, data }] of all.slice(0, 40).entries())
      expect([error, data.equals(base.subarray((i % 8) * MIB, ((i % 8) + 1) * MIB))]).toEqual([0, true]);
    expect(all[40]?.error).toBe(0);
    expect(await session.client.end()).toHaveLength(0);
    session.client.leave();
    const wanted = Buffer.from(base);
    wanted.set(noise(20, 4), MIB - 5);
    await expectSound(place, style, wanted);
  });

  test("and after all that the server ends in order", () => places.close());
});

describe("--max-connections", () => {
  test("who comes then is hung up on at once; the others go on, and there is room again when one has left", async () => {
    const cow = await newCowfile();
    const server = await serveProgram([at("base.img"), cow, "--max-connections", "2", "--socket", at("s")]);
    const first = await RawSession.open(at("s"), "simple");
    const second = await RawClient.connect(at("s"));
    await second.greeting();
    for (let i = 0; i < 5; i++) {
      const third = await RawClient.connect(at("s"));
      expect(await third.end()).toHaveLength(0);
      third.leave();
      await first.write(i * KIB, noise(KIB, i));
    }
    second.leave();
    let session: RawSession | undefined;
    await until(async () => {
      session = await RawSession.open(at("s"), "simple").catch(() => undefined);
      return session !== undefined;
    }, "room for one more");
    expect((await session?.read(0, KIB))?.equals(Buffer.from(noise(KIB, 0)))).toBe(true);
    expect(await session?.goodbye()).toHaveLength(0);
    expect(await first.goodbye()).toHaveLength(0);
    expect(await server.stop()).toMatchObject({ status: 0, stderr: "" });
  });

  test("of 1: one client after another, many times", async () => {
    const server = await serveProgram([at("base.img"), "--max-connections", "1", "--socket", at("s")]);
    for (let i = 0; i < 30; i++) {
      let session: RawSession | undefined;
      await until(async () => {
        session = await RawSession.open(at("s"), "simple").catch(() => undefined);
        return session !== undefined;
      }, "room for one");
      await session?.read(i, 1);
      await session?.goodbye();
    }
    expect(await server.stop()).toMatchObject({ status: 0, stderr: "" });
  });
});

describe("--exit-last", () => {
  /** Has it ended within so many ms? */
  async function hasEnded(server: ServeProgram, ms: number): Promise<boolean> {
    return Promise.race([server.ended.then(() => true), pause(ms).then(() => false)]);
  }

  test("visitors that use no export do not end it, the last of the others does", async () => {
    const cow = await newCowfile();
    const server = await serveProgram([at("base.img"), cow, "--exit-last", "--socket", at("s")]);
    for (let i = 0; i < 5; i++) (await RawClient.connect(at("s"))).leave();
    const lists = await RawClient.connect(at("s"));
    await lists.greeting();
    await lists.send(HELLO, option(OPT.LIST), info(OPT.INFO, ""), info(OPT.GO, "no such export"), option(OPT.ABORT));
    expect((await lists.end()).length).toBeGreaterThan(100);
    lists.leave();
    expect(await hasEnded(server, 200)).toBe(false);

    const [first, second] = [await RawSession.open(at("s"), "simple"), await RawSession.open(at("s"), "extended")];
    await first.write(1000, noise(5000, 1));
    await first.goodbye();
    expect(await hasEnded(server, 200)).toBe(false);
    await second.write(2000, noise(5000, 2));
    await second.goodbye();
    expect(await hasEnded(server, 10_000)).toBe(true);
    expect(await server.ended).toMatchObject({ status: 0, stderr: "" });
    await expectClean(cow, at("base.img"));
  });

  test.each(["leaves without goodbye", "is in the middle of a WRITE"])(
    "a last client that %s ends it, too",
    async (how) => {
      const cow = await newCowfile();
      const server = await serveProgram([at("base.img"), cow, "--exit-last", "--socket", at("s")]);
      const session = await RawSession.open(at("s"), "simple");
      await session.write(1000, noise(5000, 1));
      if (how.includes("WRITE"))
        await session.client.send(session.head({ type: CMD.WRITE, length: MIB }), noise(100, 1));
      session.client.leave();
      expect(await hasEnded(server, 10_000)).toBe(true);
      await expectClean(cow, at("base.img"));
    },
  );

  test("a visitor that is still there when the last client leaves is not waited for by mistake", async () => {
    const cow = await newCowfile();
    const server = await serveProgram([at("base.img"), cow, "--exit-last", "--socket", at("s")]);
    const visitor = await RawClient.connect(at("s"));
    const session = await RawSession.open(at("s"), "simple");
    await session.write(1000, noise(5000, 1));
    await session.goodbye();
    expect(await hasEnded(server, 200)).toBe(false);
    visitor.leave();
    expect(await hasEnded(server, 10_000)).toBe(true);
  });
});
