/**
 * Proves READ and CACHE against a running server, in each style of replies: what is read, how it is put into chunks, what
 * is refused and that the connection goes on. The rules about chunks themselves are held by nbd-raw-session.ts.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { STYLES } from "../../support/nbd/raw-client.ts";
import { type Answer, CMD, ERR, FLAG, RawSession, succeed } from "../../support/nbd/raw-session.ts";
import { makeCowfile, makeImage, startServing, type TestServer } from "../../support/nbd/test-server.ts";
import { noise } from "../../support/random.ts";
import { scratchDirectory, seesHoles } from "../../support/scratch.ts";

const MIB = 1 << 20;
const SIZE = 80 * MIB;
const HOLE = 2;

const at = scratchDirectory();
/** Data at the beginning, in the middle and at the end; holes between. */
const image = Buffer.alloc(SIZE);
let server: TestServer;

beforeAll(async () => {
  image.set(noise(MIB, 1));
  image.set(noise(MIB + 12_345, 2), 40 * MIB);
  image.set(noise(5000, 3), SIZE - 5000);
  makeImage(at("base.img"), image.subarray(0, MIB), SIZE);
  const fd = openSync(at("base.img"), "r+");
  for (const [from, to] of [
    [40 * MIB, 42 * MIB],
    [SIZE - 5000, SIZE],
  ] as const)
    writeSync(fd, image, from, to - from, from);
  closeSync(fd);
  await makeCowfile(at("base.img"), at("vm.cow"));
  server = await startServing(at, [at("base.img"), at("vm.cow")]);
});

/** Each with its own connection, which must be usable afterwards. */
async function connected(style: (typeof STYLES)[number], work: (session: RawSession) => Promise<void>): Promise<void> {
  const session = await RawSession.open(server.socket, style);
  await work(session);
  expect(await session.read(100, 100)).toEqual(image.subarray(100, 200));
  expect(await session.goodbye()).toHaveLength(0);
}

const WITHIN: readonly (readonly [number, number])[] = [
  [0, 1],
  [0, 512],
  [1, 1023],
  [1023, 2],
  [MIB - 1, 2],
  [MIB - 700, 20_000],
  [MIB, 4096],
  [4097, 524_288],
  [4097, 524_289],
  [39 * MIB + 1, 3 * MIB],
  [SIZE - 1, 1],
  [SIZE - 20_000, 20_000],
];

const BEYOND: readonly (readonly [number | bigint, number])[] = [
  [SIZE - 1, 2],
  [SIZE - 1000, 64 * MIB],
  [SIZE, 1],
  [SIZE + 1, 512],
  [2 ** 40, 512],
  [2n ** 63n, 512],
  [2n ** 64n - 1n, 1],
  [2n ** 64n - 512n, 1024],
];

describe.each(STYLES)("READ with %s replies", (style) => {
  test("gives the bytes of the image, from anywhere to anywhere", () =>
    connected(style, async (session) => {
      for (const [offset, length] of WITHIN) {
        const got = await session.read(offset, length);
        expect(got.equals(image.subarray(offset, offset + length)), `${length} bytes at ${offset}`).toBe(true);
      }
    }));

  test("gives the same for all of these at once", () =>
    connected(style, async (session) => {
      const answers = await session.all(...WITHIN.map(([offset, length]) => ({ type: CMD.READ, offset, length })));
      for (const [i, [offset, length]] of WITHIN.entries())
        expect(answers[i]?.data.equals(image.subarray(offset, offset + length))).toBe(true);
    }));

  test("serves 64 MiB at a time, and refuses more", () =>
    connected(style, async (session) => {
      const most = 64 * MIB;
      expect((await session.read(1, most)).equals(image.subarray(1, 1 + most))).toBe(true);
      expect(await session.ask({ type: CMD.READ, offset: 0, length: most + 1 })).toMatchObject({ error: ERR.EINVAL });
    }));

  test("of nothing succeeds, also at the very end", () =>
    connected(style, async (session) => {
      for (const offset of [0, 1, SIZE - 1, SIZE])
        expect(succeed(await session.ask({ type: CMD.READ, offset, length: 0 })).data).toHaveLength(0);
    }));

  test.each(BEYOND)("at %d of %d bytes is EINVAL, being past the end", (offset, length) =>
    connected(style, async (session) => {
      const answer = await session.ask({ type: CMD.READ, offset, length });
      expect(answer).toMatchObject({ error: ERR.EINVAL, isSimple: style === "simple", chunks: [] });
      if (style !== "simple") expect(answer.text).toMatch(/beyond the image/);
    }),
  );

  test("of nothing behind the end is EINVAL, and no offset is told since none lies in the request", () =>
    connected(style, async (session) => {
      expect(await session.ask({ type: CMD.READ, offset: SIZE + 1, length: 0 })).toMatchObject({ error: ERR.EINVAL });
    }));

  test("gives cookies back as they came", () =>
    connected(style, async (session) => {
      const cookies = [0n, 1n, 2n ** 31n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n, 0x25609513_21e41c71n];
      const asks = cookies.map((cookie) => ({ type: CMD.READ, offset: 3, length: 5, cookie }));
      const answers = [...(await session.all(...asks)), ...(await session.all(...asks.reverse()))];
      for (const { data } of answers) expect(data).toEqual(image.subarray(3, 8));
    }));
});

test("the error of a READ that begins in the image names the first byte that is missing", async () => {
  const session = await RawSession.open(server.socket, "structured");
  const answer = await session.ask({ type: CMD.READ, offset: SIZE - 700, length: 1000 });
  expect(answer).toMatchObject({ error: ERR.EINVAL, errorOffset: BigInt(SIZE) });
  session.client.leave();
});

describe("DF", () => {
  test("is refused where no chunks were negotiated", () =>
    connected("simple", async (session) => {
      expect((await session.ask({ type: CMD.READ, length: 512, flags: FLAG.DF })).error).toBe(ERR.EINVAL);
    }));

  test.each(["structured", "extended"] as const)("makes it one chunk, %s", (style) =>
    connected(style, async (session) => {
      for (const [offset, length] of [...WITHIN, [1, 64 * MIB]] as const) {
        const { data, chunks } = succeed(await session.ask({ type: CMD.READ, offset, length, flags: FLAG.DF }));
        expect(chunks).toEqual([{ type: 1, offset: 0, length }]);
        expect(data.equals(image.subarray(offset, offset + length))).toBe(true);
      }
    }),
  );
});

describe.skipIf(!seesHoles)("holes", () => {
  const holes = ({ chunks }: Answer): number =>
    chunks.filter(({ type }) => type === HOLE).reduce((sum, { length }) => sum + length, 0);

  test.each(["structured", "extended"] as const)("are sent as such, %s", (style) =>
    connected(style, async (session) => {
      const whole = succeed(await session.ask({ type: CMD.READ, offset: 3, length: 64 * MIB }));
      expect(holes(whole)).toBeGreaterThan(60 * MIB);
      expect(whole.data.equals(image.subarray(3, 3 + 64 * MIB))).toBe(true);
      const inside = succeed(await session.ask({ type: CMD.READ, offset: 2 * MIB + 1, length: 30 * MIB }));
      expect(inside.chunks).toEqual([{ type: HOLE, offset: 0, length: 30 * MIB }]);
    }),
  );
});

describe.each(STYLES)("CACHE with %s replies", (style) => {
  test("succeeds in the image, of any length, and is EINVAL past the end", () =>
    connected(style, async (session) => {
      for (const [offset, length] of [...WITHIN, [0, SIZE], [SIZE, 0]] as const)
        expect((await session.ask({ type: CMD.CACHE, offset, length })).error).toBe(0);
      for (const [offset, length] of BEYOND)
        expect((await session.ask({ type: CMD.CACHE, offset, length })).error).toBe(ERR.EINVAL);
    }));
});
