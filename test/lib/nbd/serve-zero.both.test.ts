/**
 * Proves WRITE_ZEROES and TRIM against a running server, in each style of replies, over a base that is not zero: zeros
 * are zeros, what was given up never turns into the base's content again, and nothing else is touched.
 */
import { statSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { STYLES } from "../../support/nbd/raw-client.ts";
import { CMD, ERR, FLAG, RawSession, succeed } from "../../support/nbd/raw-session.ts";
import { makeCowfile, makeImage, startServing, type TestServer } from "../../support/nbd/test-server.ts";
import { noise } from "../../support/random.ts";
import { scratchDirectory, seesHoles } from "../../support/scratch.ts";

const KIB = 1024;
const MIB = 1 << 20;
const SIZE = 8 * MIB;
const GIB = 2 ** 30;
const HUGE = 9 * GIB;

const at = scratchDirectory();
const original = Buffer.from(noise(SIZE, 1));
let server: TestServer;

beforeAll(async () => {
  makeImage(at("base.img"), original);
  makeImage(at("huge.img"), original.subarray(0, MIB), HUGE);
  const exports = [{ name: "fixed", stack: at("base.img") }];
  for (const style of STYLES) {
    await makeCowfile(at("base.img"), at(`${style}.cow`));
    await makeCowfile(at("huge.img"), at(`${style}-huge.cow`));
    exports.push({ name: style, stack: `${at("base.img")},${at(`${style}.cow`)}` });
    exports.push({ name: `${style}-huge`, stack: `${at("huge.img")},${at(`${style}-huge.cow`)}` });
  }
  server = await startServing(at, exports);
});

const models = new Map(STYLES.map((style) => [style, Buffer.from(original)]));

type Style = (typeof STYLES)[number];

async function connected(style: Style, work: (session: RawSession, model: Buffer) => Promise<void>): Promise<void> {
  const session = await RawSession.open(server.socket, style, { name: style });
  const model = models.get(style) ?? Buffer.alloc(0);
  await work(session, model);
  expect((await session.read(0, SIZE)).equals(model)).toBe(true);
  await session.goodbye();
}

/** Offset and length: within a block, over edges, whole blocks, whole regions. */
const RANGES: readonly (readonly [number, number])[] = [
  [10, 100],
  [KIB, KIB],
  [3 * KIB - 1, 2],
  [5 * KIB - 1, KIB + 2],
  [10 * KIB + 5, 10 * KIB],
  [262_144 - 1, 2],
  [300 * KIB, 256 * KIB],
  [MIB + 17, 2 * MIB],
  [SIZE - 1, 1],
  [SIZE - 3000, 3000],
];

const WAYS = [0, FLAG.NO_HOLE, FLAG.FUA, FLAG.NO_HOLE | FLAG.FUA, ...(seesHoles ? [FLAG.FAST_ZERO] : [])];

describe.each(STYLES)("WRITE_ZEROES with %s replies", (style) => {
  test.each(WAYS)("with flags %d makes zeros of what the base holds, and of what was written", (flags) =>
    connected(style, async (session, model) => {
      for (const [offset, length] of RANGES) {
        const payload = noise(Math.max(1, length - 7), offset);
        await session.write(offset, payload);
        model.set(payload, offset);
        succeed(await session.ask({ type: CMD.WRITE_ZEROES, offset, length, flags }));
        model.fill(0, offset, offset + length);
        const from = Math.max(0, offset - 2000);
        const got = await session.read(from, Math.min(SIZE - from, length + 4000));
        expect(got.equals(model.subarray(from, from + got.length)), `${length} at ${offset}`).toBe(true);
      }
      model.set(original.subarray(0, SIZE));
      await session.write(0, original);
    }),
  );

  test("over a base that nobody has written to, and of all ranges at once", () =>
    connected(style, async (session, model) => {
      const asks = RANGES.map(([offset, length]) => ({ type: CMD.WRITE_ZEROES, offset, length }));
      for (const { error } of await session.all(...asks)) expect(error).toBe(0);
      for (const [offset, length] of RANGES) model.fill(0, offset, offset + length);
    }));

  test("of nothing succeeds; past the end is ENOSPC; unknown flags are EINVAL", () =>
    connected(style, async (session) => {
      const zero = { type: CMD.WRITE_ZEROES };
      for (const offset of [0, 1, SIZE]) succeed(await session.ask({ ...zero, offset, length: 0 }));
      for (const [offset, length] of [
        [SIZE - 1, 2],
        [SIZE, 1],
        [0, 2 ** 32 - 1],
        [2n ** 63n, 1],
        [2n ** 64n - 1n, 1],
      ] as const)
        expect((await session.ask({ ...zero, offset, length })).error).toBe(ERR.ENOSPC);
      for (const flags of [FLAG.DF, FLAG.REQ_ONE, 1 << 6, 1 << 14])
        expect((await session.ask({ ...zero, length: KIB, flags })).error).toBe(ERR.EINVAL);
    }));

  test.skipIf(!seesHoles)("takes 2^32-1 bytes, with extended headers more, without a buffer of that size", async () => {
    const session = await RawSession.open(server.socket, style, { name: `${style}-huge` });
    await session.write(5 * GIB, noise(5000, 1));
    const length = style === "extended" ? 6 * GIB : 2 ** 32 - 1;
    succeed(await session.ask({ type: CMD.WRITE_ZEROES, offset: 1000, length }));
    expect((await session.read(0, 1000)).equals(original.subarray(0, 1000))).toBe(true);
    expect((await session.read(1000, 2 * MIB)).every((byte) => byte === 0)).toBe(true);
    const isGone = (await session.read(5 * GIB, 5000)).every((byte) => byte === 0);
    expect(isGone).toBe(style === "extended");
    succeed(await session.ask({ type: CMD.TRIM, offset: 999, length }));
    expect((await session.read(0, 999)).equals(original.subarray(0, 999))).toBe(true);
    await session.goodbye();
    expect(statSync(at(`${style}-huge.cow`)).blocks * 512).toBeLessThan(16 * MIB);
  });
});

describe.each(STYLES)("FAST_ZERO with %s replies", (style) => {
  test("is refused where zeros would have to be written, and only then; never without the flag", () =>
    connected(style, async (session, model) => {
      const [offset, length] = [64 * KIB + 3, 600 * KIB];
      const zero = { type: CMD.WRITE_ZEROES, offset, length };
      const refused = await session.ask({ ...zero, flags: FLAG.FAST_ZERO | FLAG.NO_HOLE });
      expect(refused.error).toBe(ERR.ENOTSUP);
      expect((await session.read(offset, length)).equals(model.subarray(offset, offset + length))).toBe(true);
      const fast = await session.ask({ ...zero, flags: FLAG.FAST_ZERO });
      expect(fast.error).toBe(seesHoles ? 0 : ERR.ENOTSUP);
      succeed(await session.ask(zero));
      model.fill(0, offset, offset + length);
    }));
});

describe.each(STYLES)("NO_HOLE with %s replies", (style) => {
  test.skipIf(!seesHoles)("takes space, and without it space is given back", () =>
    connected(style, async (session, model) => {
      const allocated = (): number => statSync(at(`${style}.cow`)).blocks * 512;
      const zero = { type: CMD.WRITE_ZEROES, offset: 4 * MIB, length: 2 * MIB };
      model.fill(0, 4 * MIB, 6 * MIB);
      succeed(await session.ask({ ...zero, flags: FLAG.FUA }));
      const before = allocated();
      succeed(await session.ask({ ...zero, flags: FLAG.NO_HOLE | FLAG.FUA }));
      expect(allocated() - before).toBeGreaterThanOrEqual(2 * MIB - 64 * KIB);
      succeed(await session.ask({ ...zero, flags: FLAG.FUA }));
      expect(allocated() - before).toBeLessThanOrEqual(64 * KIB);
    }),
  );
});

describe.each(STYLES)("TRIM with %s replies", (style) => {
  test("leaves what was there or zeros, never the base's content, and nothing else is touched", () =>
    connected(style, async (session, model) => {
      for (const [offset, length] of RANGES) {
        const payload = noise(length + 3000 > SIZE - offset ? length : length + 3000, offset + 7);
        await session.write(offset, payload);
        model.set(payload, offset);
        succeed(await session.ask({ type: CMD.TRIM, offset, length, flags: length % 2 ? FLAG.FUA : 0 }));
        const got = await session.read(offset, length);
        for (let i = 0; i < length; i++)
          if (got[i] !== 0 && got[i] !== model[offset + i]) throw new Error(`byte ${i} of ${length} at ${offset}`);
        model.set(got, offset);
        const from = Math.max(0, offset - 2000);
        const around = await session.read(from, Math.min(SIZE - from, length + 6000));
        expect(around.equals(model.subarray(from, from + around.length)), `${length} at ${offset}`).toBe(true);
      }
    }));

  test.skipIf(!seesHoles)("gives whole blocks back, and rounds inward", () =>
    connected(style, async (session, model) => {
      const payload = noise(8 * KIB, 3);
      await session.write(64 * KIB, payload);
      model.set(payload, 64 * KIB);
      succeed(await session.ask({ type: CMD.TRIM, offset: 64 * KIB + 1, length: 6 * KIB }));
      model.fill(0, 65 * KIB, 70 * KIB);
    }),
  );

  test("of nothing succeeds; past the end and unknown flags are EINVAL", () =>
    connected(style, async (session) => {
      const trim = { type: CMD.TRIM };
      for (const offset of [0, 1, SIZE]) succeed(await session.ask({ ...trim, offset, length: 0 }));
      for (const [offset, length] of [
        [SIZE - 1, 2],
        [SIZE, 1],
        [0, 2 ** 32 - 1],
        [2n ** 63n, 1],
        [2n ** 64n - 1n, 1],
      ] as const)
        expect((await session.ask({ ...trim, offset, length })).error).toBe(ERR.EINVAL);
      for (const flags of [FLAG.NO_HOLE, FLAG.FAST_ZERO, FLAG.DF, FLAG.REQ_ONE, 1 << 6])
        expect((await session.ask({ ...trim, length: KIB, flags })).error).toBe(ERR.EINVAL);
    }));
});

describe.each(STYLES)("a read-only export with %s replies", (style) => {
  test("answers EPERM to TRIM and WRITE_ZEROES, and says that it is read-only", async () => {
    const session = await RawSession.open(server.socket, style, { name: "fixed" });
    expect(session.terms.flags & 2).toBe(2);
    for (const type of [CMD.TRIM, CMD.WRITE_ZEROES])
      for (const flags of [0, FLAG.FUA])
        expect((await session.ask({ type, length: 4096, flags })).error).toBe(ERR.EPERM);
    expect((await session.read(0, 4096)).equals(original.subarray(0, 4096))).toBe(true);
    await session.goodbye();
  });
});
