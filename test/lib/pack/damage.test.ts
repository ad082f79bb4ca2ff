/**
 * Proves that damage to a pack is never taken for content: every flipped bit, every truncation, what stands behind the
 * end. Nothing appears where unpacking fails (unpackInMemory sees to that).
 */
import { gunzipSync, gzipSync } from "node:zlib";
import { beforeAll, describe, expect, test } from "vitest";
import { CowError } from "../../../src/lib/index.ts";
import {
  type Cow,
  denseCow,
  firstDifference,
  minuteCow,
  packed,
  payloadOf,
  tinyCow,
  unpackInMemory,
} from "../../support/images/pack-images.ts";
import { noise } from "../../support/random.ts";
import { HOW, sampleOf } from "../../support/sample.ts";
import { unheardDuring } from "../../support/unheard.ts";

/** Bits and lengths of small ones, and of some that are smaller still. */
const SMALL = ["le64", tinyCow("le64")] as const;
const MINUTE = [
  ["be64", minuteCow("be64")],
  ["le32", minuteCow("le32")],
] as const;
const FORMATS = ["zstd", "gzip", "plain"] as const;
/** So many of each, unless all are tried. */
const [BITS, LENGTHS] = [1200, 300];
const CODES = ["bad-head", "damaged", "truncated", "unsupported", "unsuitable"];

/** Unpacks what may be damaged: the error; or undefined if what came out is that cowfile; or how it differs. */
async function errorOf(pack: Uint8Array, cow: Cow): Promise<CowError | string | undefined> {
  try {
    return firstDifference((await unpackInMemory(pack)).content, cow.content);
  } catch (error) {
    if (error instanceof CowError) return error;
    throw error;
  }
}

function flipped(pack: Uint8Array, bit: number): Buffer {
  const copy = Buffer.from(pack);
  copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return copy;
}

/** Flips one bit at a time and returns for which of them the test says no. */
async function bitsWhere(
  pack: Uint8Array,
  cow: Cow,
  isWrong: (outcome: Awaited<ReturnType<typeof errorOf>>) => boolean,
): Promise<string[]> {
  const wrong: string[] = [];
  for (const bit of sampleOf([...Array(pack.length * 8).keys()], BITS, pack.length)) {
    const outcome = await errorOf(flipped(pack, bit), cow);
    if (isWrong(outcome)) wrong.push(`byte ${bit >> 3} bit ${bit & 7}: ${outcome ?? "unnoticed"}`);
  }
  return wrong;
}

describe(`one flipped bit (${HOW})`, () => {
  test.each([SMALL, ...MINUTE])(
    "%s: is noticed anywhere in a zstd pack, as damage of the file by its name",
    async (_, cow) => {
      const pack = await packed(cow, "zstd");
      const wrong = await bitsWhere(
        pack,
        cow,
        (outcome) => !(outcome instanceof CowError && CODES.includes(outcome.code) && outcome.file === "in"),
      );
      expect(wrong).toEqual([]);
    },
  );

  test.each(MINUTE)("%s: in a gzip pack never gives another cowfile", async (_, cow) => {
    const pack = await packed(cow, "gzip");
    const wrong = await bitsWhere(pack, cow, (outcome) =>
      outcome instanceof CowError ? !CODES.includes(outcome.code) || outcome.file !== "in" : outcome !== undefined,
    );
    expect(wrong).toEqual([]);
    // Only what gzip's header says of text, time, effort and system is nobody's concern.
    const harmless: string[] = [];
    for (let bit = 0; bit < 80; bit++)
      if ((await errorOf(flipped(pack, bit), cow)) === undefined) harmless.push(`${bit >> 3}.${bit & 7}`);
    expect(harmless).toEqual([
      "3.0",
      ...[4, 5, 6, 7, 8, 9].flatMap((byte) => [0, 1, 2, 3, 4, 5, 6, 7].map((b) => `${byte}.${b}`)),
    ]);
  });

  test("in the bitmap of a plain pack never goes without a word", async () => {
    const cow = tinyCow();
    const pack = await packed(cow, "plain");
    for (let bit = 0; bit < 100; bit++) {
      const outcome = await unpackInMemory(flipped(pack, 1024 * 8 + bit)).then(
        ({ notices }) => notices.join(),
        (error: unknown) => (error instanceof CowError ? error.code : ""),
      );
      expect(outcome, `bit ${bit}`).not.toBe("");
    }
  });

  describe("in a pack of several frames", () => {
    const cow = denseCow(2200);
    let pack: Buffer;
    beforeAll(async () => {
      pack = await packed(cow, "zstd");
    });

    test.each([
      ["first", 0.1, /zstd frame at byte 0 \(0x0\)/],
      ["second", 0.6, /zstd frame at byte \d+ \(0x[0-9a-f]+\)/],
      ["last", 0.98, /zstd frame at byte \d+ \(0x[0-9a-f]+\)/],
    ])("is noticed in the %s, naming its offset, and is no failure of anybody else", async (_, where, message) => {
      const unheard = await unheardDuring(async () => {
        const outcome = await errorOf(flipped(pack, Math.floor(pack.length * where) * 8), cow);
        expect(outcome).toMatchObject({ code: "damaged", file: "in", message: expect.stringMatching(message) });
        expect((outcome as CowError).details["offset"]).toBeTypeOf("number");
      });
      expect(unheard).toEqual([]);
    });

    test("in each of them tells of the first", async () => {
      const unheard = await unheardDuring(async () => {
        let damaged: Uint8Array = pack;
        for (const where of [0.9, 0.6, 0.3]) damaged = flipped(damaged, Math.floor(pack.length * where) * 8);
        expect(await errorOf(damaged, cow)).toMatchObject({ code: "damaged", details: { offset: 0 } });
      });
      expect(unheard).toEqual([]);
    });
  });

  test("in a gzip pack of several members names a place at or behind the damage", async () => {
    const cow = denseCow(2200);
    const pack = await packed(cow, "gzip");
    const at = Math.floor(pack.length * 0.6);
    const outcome = await errorOf(flipped(pack, at * 8), cow);
    expect(outcome).toMatchObject({ code: "damaged", file: "in" });
    const named = Number(/byte (\d+)/.exec((outcome as CowError).message)?.[1]);
    expect(named).toBeGreaterThanOrEqual(at);
    expect(named).toBeLessThanOrEqual(pack.length);
  });
});

describe(`a pack cut short (${HOW})`, () => {
  test.each(FORMATS)("%s: is refused at any length, naming the file and an offset", async (format) => {
    for (const [abi, cow] of format === "plain" ? MINUTE.slice(0, 1) : [SMALL, ...MINUTE]) {
      const pack = await packed(cow, format);
      const wrong: string[] = [];
      for (const length of sampleOf([...Array(pack.length).keys()], LENGTHS, pack.length)) {
        const outcome = await errorOf(pack.subarray(0, length), cow);
        const isRefused =
          outcome instanceof CowError && ["truncated", "bad-head"].includes(outcome.code) && outcome.file === "in";
        // Four bytes tell what a file is; of fewer there is no more to say than that it is nothing.
        const namesPlace = outcome instanceof CowError && /byte \d+|after \d+ bytes/.test(outcome.message);
        if (!isRefused || !(length === 0 || namesPlace)) wrong.push(`${length}: ${outcome ?? "unnoticed"}`);
      }
      expect(wrong.slice(0, 5), `${wrong.length} of ${pack.length}, ${abi}`).toEqual([]);
    }
  });

  test("gzip: is refused between two members, where gzip itself sees nothing wrong", async () => {
    const cow = denseCow(1500);
    const pack = await packed(cow, "gzip");
    const second = pack.indexOf(pack.subarray(0, 10), 1);
    expect(second).toBeGreaterThan(1 << 19);
    expect(gunzipSync(pack.subarray(0, second))).toHaveLength(1 << 20);
    expect(await errorOf(pack.subarray(0, second), cow)).toMatchObject({ code: "truncated", file: "in" });
  });
});

describe("what stands behind the end", () => {
  const cow = tinyCow();
  /** Whatever gzip says a warning about, or not even that. */
  const tails: readonly (readonly [string, Uint8Array])[] = [
    ["a zero", Buffer.alloc(1)],
    ["a sector of zeros", Buffer.alloc(512)],
    ["text", Buffer.from("left-over of an older, longer file")],
    ["one byte", Buffer.from("x")],
    ["half a magic number", Buffer.of(0x1f)],
    ["zeros, then text", Buffer.concat([Buffer.alloc(100), Buffer.from("text")])],
    ["a megabyte of noise", noise(1 << 20, 7)],
    ["0xff", Buffer.alloc(300, 0xff)],
  ];

  test.each(tails)("gzip: %s is left out", async (_, tail) => {
    expect(await errorOf(Buffer.concat([await packed(cow, "gzip"), tail]), cow)).toBeUndefined();
  });

  test("gzip: an empty member, zeros and another empty member are no content", async () => {
    const tail = Buffer.concat([gzipSync(""), Buffer.alloc(20), gzipSync("")]);
    expect(await errorOf(Buffer.concat([await packed(cow, "gzip"), tail]), cow)).toBeUndefined();
  });

  test("gzip: a member with content is too much", async () => {
    const outcome = await errorOf(Buffer.concat([await packed(cow, "gzip"), gzipSync("x")]), cow);
    expect(outcome).toMatchObject({
      code: "damaged",
      file: "in",
      message: expect.stringMatching(/continues after its last block|another member/),
    });
  });

  test("gzip: a missing second half is not taken for garbage", async () => {
    const payload = payloadOf(cow);
    const half = Buffer.concat([
      gzipSync(payload.subarray(0, 3000)),
      Buffer.from("garbage"),
      gzipSync(payload.subarray(3000)),
    ]);
    expect(await errorOf(half, cow)).toMatchObject({ file: "in" });
  });

  test.each(tails)("zstd: %s is refused", async (_, tail) => {
    const outcome = await errorOf(Buffer.concat([await packed(cow, "zstd"), tail]), cow);
    expect(outcome).toMatchObject({ file: "in" });
    expect(["truncated", "damaged"]).toContain((outcome as CowError).code);
  });

  test("zstd: a second pack behind the first is refused", async () => {
    const pack = await packed(cow, "zstd");
    expect(await errorOf(Buffer.concat([pack, pack]), cow)).toMatchObject({ code: "damaged", file: "in" });
  });

  test.each(tails)("plain: %s is left out, with a warning that says how much it is", async (_, tail) => {
    const { content, notices } = await unpackInMemory(Buffer.concat([await packed(cow, "plain"), tail]));
    expect(firstDifference(content, cow.content)).toBeUndefined();
    expect(notices).toEqual([expect.stringContaining(`in: its last ${tail.length} bytes`)]);
  });
});
