/**
 * Proves that a pack gets no more than its own head allows it: streams that go on, heads that promise what no file could
 * hold, packs that are none, and what packing takes. Nothing appears where it fails (packInMemory, unpackInMemory).
 */
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { type CowError, headLayout, MemoryStorage, type PackRequest, pack, unpack } from "../../../src/lib/index.ts";
import { cpuMsOf } from "../../support/effort.ts";
import {
  type Cow,
  denseCow,
  firstDifference,
  layOut,
  packed,
  packInMemory,
  payloadOf,
  plainOf,
  tinyCow,
  unpackInMemory,
} from "../../support/images/pack-images.ts";
import { containerOf, honestRows } from "../../support/images/zstd-containers.ts";
import { noise } from "../../support/random.ts";

const FORMATS = ["zstd", "gzip", "plain"] as const;
const STREAMS = ["zstd", "gzip"] as const;
const MIB = 1 << 20;
const tiny = tinyCow();

/** A pack with that payload, by the book. */
function wrap(format: (typeof STREAMS)[number], payload: Uint8Array): Buffer {
  return format === "gzip" ? gzipSync(payload, { level: 1 }) : containerOf(honestRows(payload, MIB));
}

/** The packed head of `tiny`, with other values in some of its words. */
function headWith(words: Readonly<Partial<Record<"mapsize" | "doffset" | "rdoblocks" | "mapunit", bigint>>>): Buffer {
  const head = Buffer.from(tiny.packedHead);
  for (const { name, offsetBytes } of headLayout("le64").fields) {
    const value = (words as Readonly<Record<string, bigint | undefined>>)[name];
    if (value !== undefined) head.writeBigUInt64LE(value, offsetBytes);
  }
  return head;
}

function headOfBlocks(blocks: bigint): Buffer {
  const mapsize = 1024n * ((blocks + 8191n) / 8192n);
  return headWith({ rdoblocks: blocks, mapsize, doffset: 4096n * ((1024n + mapsize + 4095n) / 4096n) });
}

/** How much was written while unpacking it, and how that ended. */
async function writtenBy(bytes: Uint8Array): Promise<{ readonly written: number; readonly error: unknown }> {
  const storage = new MemoryStorage();
  storage.put("in", bytes);
  const error = await unpack("in", "out", { threads: 2 }, { storage }).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  let written = 0;
  for (const entry of storage.log)
    if (entry.kind === "device" && entry.change.kind === "write") written += entry.change.bytes.length;
  return { written, error };
}

describe("bombs", () => {
  test.each(STREAMS)("%s: 64 MiB behind the last block are refused, and none of them written", async (format) => {
    const payload = payloadOf(tiny);
    const { written, error } = await writtenBy(wrap(format, Buffer.concat([payload, Buffer.alloc(64 * MIB)])));
    expect(error).toMatchObject({
      code: "damaged",
      file: "in",
      message: expect.stringMatching(/continues after its last block/),
    });
    expect(written).toBeLessThanOrEqual(payload.length);
  });

  test.each(STREAMS)("%s: zeros without end are no head, and nothing is written", async (format) => {
    const { written, error } = await writtenBy(wrap(format, Buffer.alloc(64 * MIB)));
    expect([error, written]).toEqual([expect.objectContaining({ code: "bad-head", file: "in" }), 0]);
  });

  test.each(STREAMS)("%s: a head of 2^40 blocks with a tiny stream is truncated, at once", async (format) => {
    const effort = cpuMsOf(async () => {
      const pack = wrap(format, Buffer.concat([headOfBlocks(2n ** 40n), noise(9000, 1)]));
      const { written, error } = await writtenBy(pack);
      expect(error).toMatchObject({ code: "truncated", file: "in" });
      expect(written).toBeLessThan(10_000);
    });
    expect(await effort).toBeLessThan(2000);
  });

  const heads: readonly (readonly [string, Buffer])[] = [
    ["2^63 blocks", headOfBlocks(2n ** 63n)],
    ["no block", headWith({ rdoblocks: 0n })],
    ["a bitmap smaller than its blocks need", headWith({ rdoblocks: 9000n })],
    ["a bitmap larger than its blocks need", headWith({ mapsize: 2048n })],
    ["a bitmap of 2^60 bytes", headWith({ mapsize: 2n ** 60n })],
    ["data inside its bitmap", headWith({ doffset: 2047n })],
    ["data inside its head", headWith({ doffset: 0n })],
    ["data at byte 2^63", headWith({ doffset: 2n ** 63n })],
    ["blocks of 512 bytes", headWith({ mapunit: 512n })],
  ];
  test.each(heads)("a head with %s is refused in every format", async (_, head) => {
    const payload = Buffer.concat([head, payloadOf(tiny).subarray(head.length)]);
    const plain = Buffer.concat([head, plainOf(tiny).subarray(head.length)]);
    for (const bytes of [wrap("zstd", payload), wrap("gzip", payload), plain]) {
      const code = expect.stringMatching(/^(?:damaged|bad-head)$/);
      await expect(unpackInMemory(bytes)).rejects.toMatchObject({ code, file: "in" });
    }
  });
});

describe("what is inside decides, not what it is called", () => {
  test.each(FORMATS)("%s: packing a pack is refused (U13)", async (format) => {
    for (const into of FORMATS) {
      const failed = packInMemory(await packed(tiny, format), { format: into });
      await expect(failed).rejects.toMatchObject({ code: "packed", file: "in" });
    }
  });

  test("unpacking a cowfile that is not packed is refused (U13)", async () => {
    await expect(unpackInMemory(tiny.content)).rejects.toMatchObject({ code: "unsuitable", file: "in" });
  });

  test.each(STREAMS)("%s: a stream with an unpacked cowfile inside is refused", async (format) => {
    const unpackedHead = Buffer.from(tiny.content.toBytes().subarray(0, 56));
    const payload = Buffer.concat([unpackedHead, payloadOf(tiny).subarray(56)]);
    await expect(unpackInMemory(wrap(format, payload))).rejects.toMatchObject({ code: "bad-head", file: "in" });
    await expect(unpackInMemory(wrap(format, tiny.content.toBytes()))).rejects.toMatchObject({ code: "bad-head" });
  });

  test.each(STREAMS)("%s: a pack within a pack is refused", async (format) => {
    for (const inner of FORMATS) {
      const twice = wrap(format, await packed(tiny, inner));
      const failed = unpackInMemory(twice);
      await expect(failed).rejects.toMatchObject({ file: "in" });
      await expect(packInMemory(twice, {})).rejects.toMatchObject({ code: "packed" });
    }
  });

  test("each format is known by its content (U14)", async () => {
    for (const format of FORMATS) {
      const { content, result } = await unpackInMemory(await packed(tiny, format));
      expect([result.format, firstDifference(content, tiny.content)]).toEqual([format, undefined]);
    }
  });

  test.each([
    ["nothing", Buffer.alloc(0)],
    ["zeros", Buffer.alloc(8192)],
    ["noise", Buffer.from(noise(8192, 1))],
    ["text", Buffer.from("cowfile\n")],
    ["gzip's magic number alone", Buffer.of(0x1f, 0x8b)],
    ["zstd's magic number alone", Buffer.of(0x28, 0xb5, 0x2f, 0xfd)],
    ["the cowfile's magic number alone", Buffer.from("7f434f57", "hex")],
    ["text in gzip", gzipSync("moo")],
    ["nothing in gzip", gzipSync("")],
  ])("%s: is refused by both, naming the file", async (_, bytes) => {
    const code = expect.stringMatching(/^(?:bad-head|truncated|damaged|packed)$/);
    await expect(packInMemory(bytes, {})).rejects.toMatchObject({ code, file: "in" });
    await expect(unpackInMemory(bytes)).rejects.toMatchObject({ code, file: "in" });
  });
});

describe("what cannot be packed whole", () => {
  const edited = (edit: (bytes: Buffer) => Buffer | undefined): Buffer => {
    const bytes = Buffer.from(tiny.content.toBytes());
    return edit(bytes) ?? bytes;
  };
  const unsound: readonly (readonly [string, string, Uint8Array])[] = [
    ["a dirty one", "dirty", layOut({ rdoBlocks: 10, flags: 1, blocks: [] }).content.toBytes()],
    ["one that is dirty and packed", "packed", layOut({ rdoBlocks: 10, flags: 3, blocks: [] }).content.toBytes()],
    ["one that ends inside its last block", "damaged", edited((bytes) => bytes.subarray(0, -1))],
    ["one that ends before its last block", "damaged", edited((bytes) => bytes.subarray(0, 50_000))],
    ["one that ends inside its bitmap", "truncated", edited((bytes) => bytes.subarray(0, 2047))],
    ["one that ends inside its head", "truncated", edited((bytes) => bytes.subarray(0, 55))],
    ["one whose head counts another number of blocks", "damaged", edited((bytes) => void bytes.writeUInt8(5, 48))],
    ["one of version 2", "unsupported", edited((bytes) => void bytes.writeUInt8(2, 4))],
    ["one with a wrong size of its bitmap", "damaged", edited((bytes) => void bytes.writeUInt16LE(2048, 16))],
  ];
  test.each(unsound)("%s is refused as %s, in every format", async (_, code, bytes) => {
    for (const format of FORMATS) {
      await expect(packInMemory(bytes, { format })).rejects.toMatchObject({ code, file: "in" });
    }
  });

  test("the refusal says where, and what to do", async () => {
    const failed = packInMemory(tiny.content.toBytes().subarray(0, 50_000), {});
    const error = (await failed.catch((reason: unknown) => reason)) as CowError;
    expect(error.message).toMatch(/block 99 .*byte \d+ \(0x[0-9a-f]+\)/);
    expect(error.hints.join()).toContain("cowtool repair");
  });

  const sound: readonly (readonly [string, Cow])[] = [
    ["one without a block", layOut({ rdoBlocks: 5, blocks: [] })],
    ["one of a single block", layOut({ rdoBlocks: 1, blocks: [[0, noise(1024, 1)]] })],
    ["one that holds all its blocks", denseCow(64)],
    [
      "one of zeros only",
      layOut({ rdoBlocks: 9, blocks: [0, 3, 8].map((block) => [block, new Uint8Array()] as const) }),
    ],
    [
      "one with bits behind its end",
      layOut({
        rdoBlocks: 9,
        blocks: [
          [8, noise(9, 1)],
          [300, noise(9, 2)],
        ],
      }),
    ],
    ["one with unknown flags", layOut({ rdoBlocks: 9, flags: 0x40, blocks: [[8, noise(9, 1)]] })],
  ];
  test.each(sound)("%s is packed whole", async (_, cow) => {
    for (const format of FORMATS) {
      const bytes = await packed(cow, format);
      if (format === "plain") expect(bytes.equals(plainOf(cow))).toBe(true);
      expect(firstDifference((await unpackInMemory(bytes)).content, cow.content)).toBeUndefined();
    }
  });

  const requests: readonly (readonly [string, PackRequest])[] = [
    ["level 0", { level: 0 }],
    ["level 23 for zstd", { level: 23 }],
    ["level 10 for gzip", { format: "gzip", level: 10 }],
    ["a level for plain", { format: "plain", level: 1 }],
    ["no thread", { threads: 0 }],
    ["less than no thread", { threads: -1 }],
    ["a stream that nobody brought", { streams: {} }],
  ];
  test.each(requests)("%s is a usage error", async (what, request) => {
    const storage = new MemoryStorage();
    storage.put("in", tiny.content);
    const [from, to] = what.startsWith("a stream") ? ["-", "-"] : ["in", "out"];
    await expect(pack(from, to, request, { storage })).rejects.toMatchObject({ code: "usage" });
    if (request.threads !== undefined || request.streams) {
      storage.put("packed", await packed(tiny, "zstd"));
      const failed = unpack(from === "-" ? "-" : "packed", to, request, { storage });
      await expect(failed).rejects.toMatchObject({ code: "usage" });
    }
    expect(storage.paths()).not.toContain("out");
  });
});
