/**
 * Proves WRITE and FLUSH against a running server, in each style of replies: what is written is there, what is refused
 * has its payload drained so that the next request is understood.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { STYLES } from "../../support/nbd/raw-client.ts";
import { type Ask, CMD, ERR, FLAG, RawSession, succeed } from "../../support/nbd/raw-session.ts";
import { makeCowfile, makeImage, startServing, type TestServer } from "../../support/nbd/test-server.ts";
import { noise } from "../../support/random.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const MIB = 1 << 20;
const SIZE = 72 * MIB;
const MOST = 64 * MIB;

const at = scratchDirectory();
const model = Buffer.alloc(SIZE);
let server: TestServer;

beforeAll(async () => {
  model.set(noise(MIB, 1));
  makeImage(at("base.img"), model.subarray(0, MIB), SIZE);
  await makeCowfile(at("base.img"), at("vm.cow"));
  server = await startServing(at, [
    { name: "", stack: `${at("base.img")},${at("vm.cow")}` },
    { name: "fixed", stack: at("base.img") },
  ]);
});

type Style = (typeof STYLES)[number];

async function connected(style: Style, work: (session: RawSession) => Promise<void>, name = ""): Promise<void> {
  const session = await RawSession.open(server.socket, style, { name });
  await work(session);
  const [length, offset] = [3000, 700];
  if (name === "")
    expect((await session.read(offset, length)).equals(model.subarray(offset, offset + length))).toBe(true);
  else await session.read(offset, length);
  expect(await session.goodbye()).toHaveLength(0);
}

/** Writes by the book, noting it in the model. */
async function write(session: RawSession, offset: number, payload: Uint8Array, flags = 0): Promise<void> {
  await session.write(offset, payload, flags);
  model.set(payload, offset);
}

async function expectWhole(session: RawSession): Promise<void> {
  for (let offset = 0; offset < SIZE; offset += 8 * MIB)
    expect((await session.read(offset, 8 * MIB)).equals(model.subarray(offset, offset + 8 * MIB))).toBe(true);
}

/** Offset and length. */
const RANGES: readonly (readonly [number, number])[] = [
  [0, 1],
  [1, 1],
  [1023, 1],
  [1023, 2],
  [5000, 1024],
  [10 * 1024, 1024],
  [20 * 1024, 3072],
  [31 * 1024 + 5, 5000],
  [262_143, 2],
  [MIB - 1, 2],
  [MIB + 77, 300_000],
  [2 * MIB + 1, MIB],
  [4 * MIB + 3, MIB + 1],
  [SIZE - 1, 1],
];

describe.each(STYLES)("WRITE with %s replies", (style) => {
  test("is there when it is answered, at any offset, and touches nothing else", () =>
    connected(style, async (session) => {
      for (const [i, [offset, length]] of RANGES.entries()) await write(session, offset, noise(length, 10 + i));
      await expectWhole(session);
    }));

  test("of all these at once, with FUA for some, is there, too", () =>
    connected(style, async (session) => {
      const asks = RANGES.map(([offset, length], i): Ask => {
        const payload = noise(length, 40 + i);
        model.set(payload, offset);
        return { type: CMD.WRITE, offset, payload, flags: i % 3 === 0 ? FLAG.FUA : 0 };
      });
      for (const { error } of await session.all(...asks)) expect(error).toBe(0);
      await expectWhole(session);
    }));

  test.each([33 * MIB, MOST])("serves %d bytes", (length) =>
    connected(style, async (session) => {
      await write(session, 4097, Buffer.alloc(length, noise(4099, length)), FLAG.FUA);
      const [from, end] = [3000, 4097 + length + 5000];
      for (let offset = from; offset < end; offset += MOST) {
        const stop = Math.min(end, offset + MOST);
        expect((await session.read(offset, stop - offset)).equals(model.subarray(offset, stop))).toBe(true);
      }
    }),
  );

  test("of nothing succeeds, also at the very end", () =>
    connected(style, async (session) => {
      const payload = new Uint8Array(0);
      for (const offset of [0, 5, SIZE]) succeed(await session.ask({ type: CMD.WRITE, offset, payload }));
    }));
});

interface Refused {
  readonly what: string;
  readonly ask: Ask;
  readonly error: number;
  readonly says: RegExp;
  readonly name?: string;
}

const payload = noise(5000, 99);
const refusals: readonly Refused[] = [
  ...[SIZE - 4999, SIZE, SIZE + 1, 2 ** 45, 2n ** 63n, 2n ** 64n - 5000n, 2n ** 64n - 1n].map((offset) => ({
    what: `at ${offset}, past the end`,
    ask: { type: CMD.WRITE, offset, payload },
    error: ERR.ENOSPC,
    says: /beyond the image/,
  })),
  {
    what: "of more than 64 MiB",
    ask: { type: CMD.WRITE, offset: 0, payload: Buffer.alloc(MOST + 1, 7) },
    error: ERR.EINVAL,
    says: /at most/,
  },
  ...[FLAG.NO_HOLE, FLAG.DF, FLAG.REQ_ONE, FLAG.FAST_ZERO, 1 << 6, 1 << 15, FLAG.DF | FLAG.FUA].map((flags) => ({
    what: `with flags 0x${flags.toString(16)}`,
    ask: { type: CMD.WRITE, offset: 0, payload, flags },
    error: ERR.EINVAL,
    says: /flag/,
  })),
  {
    what: "to an export that is read-only",
    ask: { type: CMD.WRITE, offset: 0, payload },
    error: ERR.EPERM,
    says: /read-only/,
    name: "fixed",
  },
  {
    what: "of 3 MiB to an export that is read-only",
    ask: { type: CMD.WRITE, offset: 5, payload: Buffer.alloc(3 * MIB, 1), flags: FLAG.FUA },
    error: ERR.EPERM,
    says: /read-only/,
    name: "fixed",
  },
];

describe.each(STYLES)("a WRITE that is refused, with %s replies", (style) => {
  test.each(refusals)("$what", ({ ask, error, says, name = "" }) =>
    connected(
      style,
      async (session) => {
        const read = { type: CMD.READ, offset: 0, length: 2000 };
        const answers = await session.all(read, ask, read, ask, read);
        expect(answers.map((answer) => answer.error)).toEqual([0, error, 0, error, 0]);
        if (style !== "simple") expect(answers[1]?.text).toMatch(says);
        const [before, , between, , after] = answers;
        expect(between?.data).toEqual(before?.data);
        expect(after?.data).toEqual(before?.data);
      },
      name,
    ),
  );
});

describe.each(STYLES)("FLUSH with %s replies", (style) => {
  test.each(["", "fixed"])("succeeds on export '%s', alone and behind writes", (name) =>
    connected(
      style,
      async (session) => {
        const flush = { type: CMD.FLUSH };
        const answers = await session.all(flush, flush, { ...flush, flags: FLAG.FUA }, flush);
        expect(answers.map(({ error }) => error)).toEqual([0, 0, 0, 0]);
      },
      name,
    ),
  );
});

test("what a connection was told to be written is what the next one reads", async () => {
  const [one, two] = await Promise.all([
    RawSession.open(server.socket, "simple"),
    RawSession.open(server.socket, "extended"),
  ]);
  for (let i = 0; i < 100; i++) {
    const [writer, reader] = i % 2 ? [one, two] : [two, one];
    const offset = 60 * MIB + i * 700;
    await write(writer, offset, noise(1500, i));
    expect((await reader.read(offset - 10, 2000)).equals(model.subarray(offset - 10, offset + 1990))).toBe(true);
  }
  await Promise.all([one.goodbye(), two.goodbye()]);
});
