/**
 * Proves BLOCK_STATUS against a running server, with structured replies and extended headers: what each context says of
 * base, layers and holes, REQ_ONE, limits, what is refused.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { nodeStorage } from "../../../src/lib/index.ts";
import { type Answer, CMD, ERR, FLAG, RawSession, succeed } from "../../support/nbd/raw-session.ts";
import { makeCowfile, makeImage, startServing, type TestServer } from "../../support/nbd/test-server.ts";
import { noise } from "../../support/random.ts";
import { scratchDirectory, seesHoles } from "../../support/scratch.ts";

const KIB = 1024;
const MIB = 1 << 20;
const SIZE = 16 * MIB;
const HUGE = 6 * 2 ** 30;
/** So large that every other block makes more extents than fit into one answer. */
const WIDE = 128 * MIB;
const ALLOCATION = "base:allocation";
const DEPTH = "qemu:allocation-depth";
const DIRTY = "qemu:dirty-bitmap:cowtool";
const ALL = [ALLOCATION, DEPTH, DIRTY];
const CHUNKED = ["structured", "extended"] as const;

const at = scratchDirectory();
let server: TestServer;

/** The base has data in its first MiB; the lower layer holds [2, 3) MiB, the upper one [4, 5) MiB data, [6, 7) zeros. */
beforeAll(async () => {
  makeImage(at("base.img"), noise(MIB, 1), SIZE);
  makeImage(at("huge.img"), noise(MIB, 1), HUGE);
  await makeCowfile(at("base.img"), at("low.cow"));
  await makeCowfile(at("huge.img"), at("huge.cow"));
  const first = await startServing(at, [at("base.img"), at("low.cow")]);
  const writer = await RawSession.open(first.socket, "simple");
  await writer.write(2 * MIB, noise(MIB, 2));
  await writer.goodbye();
  await first.stop();
  await makeCowfile(`${at("base.img")},${at("low.cow")}`, at("top.cow"));
  server = await startServing(at, [
    { name: "", stack: `${at("base.img")},${at("low.cow")},${at("top.cow")}` },
    { name: "fixed", stack: at("base.img") },
    { name: "huge", stack: `${at("huge.img")},${at("huge.cow")}` },
  ]);
  const session = await RawSession.open(server.socket, "simple");
  await session.write(4 * MIB, noise(MIB, 3));
  await session.write(6 * MIB, noise(MIB, 4));
  await session.ask({ type: CMD.WRITE_ZEROES, offset: 6 * MIB, length: MIB });
  await session.goodbye();
});

type Style = (typeof CHUNKED)[number];

async function connected(
  style: Style,
  work: (session: RawSession) => Promise<void>,
  entry: { readonly name?: string; readonly contexts?: readonly string[] } = {},
): Promise<void> {
  const session = await RawSession.open(server.socket, style, { contexts: ALL, ...entry });
  await work(session);
  await session.read(0, 100);
  expect(await session.goodbye()).toHaveLength(0);
}

type Runs = readonly (readonly [number, number])[];

/** The flags at an offset of the answer. */
function flagsAt(answer: Answer, context: string, wanted: number): number | undefined {
  let end = 0;
  for (const [length, flags] of answer.extents.get(context) ?? []) {
    end += length;
    if (wanted < end) return flags;
  }
  return undefined;
}

function total(runs: Runs | undefined): number {
  return (runs ?? []).reduce((sum, [length]) => sum + length, 0);
}

describe.each(CHUNKED)("BLOCK_STATUS with %s replies", (style) => {
  const whole = { type: CMD.BLOCK_STATUS, offset: 0, length: SIZE };

  test("says what is data and what is zero", () =>
    connected(style, async (session) => {
      const answer = succeed(await session.ask(whole));
      expect([...answer.extents.keys()].sort()).toEqual(ALL);
      for (const context of ALL) expect(total(answer.extents.get(context))).toBe(SIZE);
      const flags = [0, 1.5, 2, 3.5, 4, 5.5, 6, 7.5, 15.9].map((mib) => flagsAt(answer, ALLOCATION, mib * MIB));
      expect(flags).toEqual(seesHoles ? [0, 3, 0, 3, 0, 3, 3, 3, 3] : [0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }));

  test("never says HOLE without ZERO, and nothing that reads as data is said to be zero", () =>
    connected(style, async (session) => {
      const answer = succeed(await session.ask(whole));
      const data = await session.read(0, SIZE, FLAG.DF);
      let offset = 0;
      for (const [length, flags] of answer.extents.get(ALLOCATION) ?? []) {
        expect([0, 2, 3]).toContain(flags);
        if (flags !== 0) expect(data.subarray(offset, offset + length).every((byte) => byte === 0)).toBe(true);
        offset += length;
      }
    }));

  test("says how deep each part lies, and what the top cowfile holds", () =>
    connected(style, async (session) => {
      const answer = succeed(await session.ask(whole));
      const depths = [0, 1.5, 2, 3.5, 4, 5.5, 6, 7.5].map((mib) => flagsAt(answer, DEPTH, mib * MIB));
      expect(depths).toEqual(seesHoles ? [3, 0, 2, 0, 1, 0, 1, 0] : [3, 3, 2, 3, 1, 3, 1, 3]);
      expect(answer.extents.get(DIRTY)).toEqual([
        [4 * MIB, 0],
        [MIB, 1],
        [MIB, 0],
        [MIB, 1],
        [9 * MIB, 0],
      ]);
    }));

  test("begins and ends anywhere", () =>
    connected(style, async (session) => {
      for (const [offset, length] of [
        [4 * MIB - 1, 2],
        [4 * MIB + 511, MIB],
        [SIZE - 1, 1],
        [5 * MIB - 3, 1 * MIB + 6],
        [1, 1],
      ] as const) {
        const answer = succeed(await session.ask({ type: CMD.BLOCK_STATUS, offset, length }));
        for (const context of ALL) expect(total(answer.extents.get(context))).toBe(length);
        const isHeld = (byte: number): boolean =>
          (byte >= 4 * MIB && byte < 5 * MIB) || (byte >= 6 * MIB && byte < 7 * MIB);
        expect(flagsAt(answer, DIRTY, 0)).toBe(Number(isHeld(offset)));
        expect(flagsAt(answer, DIRTY, length - 1)).toBe(Number(isHeld(offset + length - 1)));
      }
    }));

  test("REQ_ONE gives one extent of each context, as long as it can be", () =>
    connected(style, async (session) => {
      const one = { type: CMD.BLOCK_STATUS, flags: FLAG.REQ_ONE };
      const early = succeed(await session.ask({ ...one, offset: 4 * MIB + 100, length: 8 * MIB }));
      expect(early.extents.get(DIRTY)).toEqual([[MIB - 100, 1]]);
      const short = succeed(await session.ask({ ...one, offset: 4 * MIB + 100, length: 7 }));
      for (const context of ALL) expect(total(short.extents.get(context))).toBe(7);
    }));

  test.each(ALL)("tells of %s alone, if that alone was selected", (context) =>
    connected(
      style,
      async (session) => {
        expect([...succeed(await session.ask(whole)).extents.keys()]).toEqual([context]);
      },
      { contexts: [context] },
    ),
  );

  test("is EINVAL without a context, of nothing, past the end, and with flags it does not know", async () => {
    await connected(
      style,
      async (session) => {
        expect((await session.ask(whole)).error).toBe(ERR.EINVAL);
      },
      { contexts: [] },
    );
    await connected(style, async (session) => {
      const status = { type: CMD.BLOCK_STATUS };
      for (const [offset, length] of [
        [0, 0],
        [0, SIZE + 1],
        [SIZE - 1, 2],
        [SIZE, 1],
        [2n ** 63n, 1],
        [2n ** 64n - 1n, 2],
      ] as const)
        expect((await session.ask({ ...status, offset, length })).error, `${length} at ${offset}`).toBe(ERR.EINVAL);
      for (const flags of [FLAG.NO_HOLE, FLAG.DF, FLAG.FAST_ZERO, 1 << 6])
        expect((await session.ask({ ...whole, flags })).error).toBe(ERR.EINVAL);
      succeed(await session.ask({ ...whole, flags: FLAG.FUA }));
    });
  });

  test("of a base alone: nothing is dirty, all is data or zero", () =>
    connected(
      style,
      async (session) => {
        const answer = succeed(await session.ask(whole));
        expect(answer.extents.get(DIRTY)).toEqual([[SIZE, 0]]);
        expect(answer.extents.get(DEPTH)).toEqual(
          seesHoles
            ? [
                [MIB, 1],
                [SIZE - MIB, 0],
              ]
            : [[SIZE, 1]],
        );
      },
      { name: "fixed" },
    ));

  test("has as much as 32 bits can say, or 64 with extended headers", () =>
    connected(
      style,
      async (session) => {
        const length = style === "extended" ? HUGE : 2 ** 32 - 1;
        const answer = succeed(await session.ask({ type: CMD.BLOCK_STATUS, length }));
        expect(answer.extents.get(DIRTY)).toEqual([[length, 0]]);
      },
      { name: "huge" },
    ));

  test("of very many extents gives the first of them, and the rest when asked again", async () => {
    makeImage(at("wide.img"), noise(MIB, 1), WIDE);
    await makeCowfile(at("wide.img"), at("striped.cow"));
    stripe(at("striped.cow"));
    const striped = await startServing(at, [at("wide.img"), at("striped.cow")], { readOnly: true });
    const session = await RawSession.open(striped.socket, style, { contexts: [DIRTY, DEPTH] });
    let held = 0;
    let offset = 0;
    for (let questions = 0; offset < WIDE; questions++) {
      const answer = succeed(await session.ask({ type: CMD.BLOCK_STATUS, offset, length: WIDE - offset }));
      const runs = answer.extents.get(DIRTY) ?? [];
      for (const [length, flags] of runs) held += flags * length;
      offset += total(runs);
      expect(questions).toBeLessThan(100);
    }
    expect([offset, held]).toEqual([WIDE, WIDE / 2]);
    await session.goodbye();
    await striped.stop();
  });
});

/** Marks every other block of a fresh cowfile, as a cowfile that is clean. */
function stripe(cowfile: string): void {
  const device = nodeStorage.open(cowfile, { writable: true, lock: "exclusive" });
  const bitmap = new Uint8Array(WIDE / KIB / 8).fill(0x55);
  device.write(bitmap, KIB);
  // Beyond the last block, wherever the data area begins: marks without data would not count.
  device.write(new Uint8Array(1), device.sizeBytes + WIDE + 64 * KIB);
  device.close();
}

test("BLOCK_STATUS is EINVAL with simple replies", async () => {
  const session = await RawSession.open(server.socket, "simple");
  expect((await session.ask({ type: CMD.BLOCK_STATUS, length: KIB })).error).toBe(ERR.EINVAL);
  await session.read(0, 1);
  await session.goodbye();
});
