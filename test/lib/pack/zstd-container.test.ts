/**
 * Proves the container of zstd packs: it is zstd's public seekable format, any frame stands for itself, and no table that
 * somebody made up makes a reader take other content, or more of anything than the file justifies.
 */
import { createHash } from "node:crypto";
import { crc32, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { PackedView } from "../../../src/lib/formats/cowfile/pack/packed-view.ts";
import type { ByteSource } from "../../../src/lib/index.ts";
import { MemoryDevice, SparseBytes } from "../../../src/lib/index.ts";
import {
  denseCow,
  firstDifference,
  packed,
  payloadOf,
  tinyCow,
  unpackInMemory,
} from "../../support/images/pack-images.ts";
import {
  containerOf,
  frameOf,
  honestRows,
  type Lies,
  type Row,
  readSeekTable,
} from "../../support/images/zstd-containers.ts";
import { unheardDuring } from "../../support/unheard.ts";

const MIB = 1 << 20;
const tiny = tinyCow();
const dense = denseCow(3000);

/** A source in memory that knows which of its bytes were read. */
function counted(bytes: Uint8Array): { readonly source: ByteSource; readonly readBytes: () => number } {
  const device = new MemoryDevice("in", SparseBytes.from(bytes), false);
  let count = 0;
  const source: ByteSource = {
    name: "in",
    sizeBytes: bytes.length,
    allocationUnitBytes: 4096,
    seesHoles: false,
    dataExtents: (from, to) => device.dataExtents(from, to),
    read: (target, offset) => {
      const got = device.read(target, offset);
      count += got;
      return got;
    },
  };
  return { source, readBytes: () => count };
}

describe("a zstd pack of ours", () => {
  test("ends with a seek table of the public format, true of every frame", async () => {
    const payload = payloadOf(dense);
    const pack = await packed(dense, "zstd");
    const frames = readSeekTable(pack);
    expect(frames.map(({ contentBytes }) => contentBytes)).toEqual([MIB, MIB, payload.length - 2 * MIB]);
    let done = 0;
    for (const { offset, compressedBytes, contentBytes, checksum } of frames) {
      const frame = pack.subarray(offset, offset + compressedBytes);
      expect(frame.readUInt32LE(0)).toBe(0xfd2fb528);
      expect(frame.readUInt32LE(frame.length - 4)).toBe(checksum);
      // Content size and checksum are in each frame's own header, too.
      expect((frame[4] ?? 0) & 4).toBe(4);
      const content = zstdDecompressSync(frame);
      expect(content.equals(payload.subarray(done, done + contentBytes))).toBe(true);
      done += contentBytes;
    }
    expect(done).toBe(payload.length);
  });

  test("has before it a skippable frame with the SHA-256 of frames and table", async () => {
    const pack = await packed(dense, "zstd");
    const frames = readSeekTable(pack);
    const end = frames.reduce((sum, { compressedBytes }) => sum + compressedBytes, 0);
    const digest = pack.subarray(end, end + 48);
    expect([digest.readUInt32LE(0), digest.readUInt32LE(4)]).toEqual([0x184d2a50, 40]);
    const expected = createHash("sha256")
      .update(pack.subarray(0, end))
      .update(pack.subarray(end + 48))
      .digest("hex");
    expect(digest.toString("hex", 16)).toBe(expected);
  });

  test("is what the book's own encoder makes of the same frames", async () => {
    const pack = await packed(dense, "zstd");
    const rows = readSeekTable(pack).map(({ offset, compressedBytes, contentBytes }) => ({
      frame: pack.subarray(offset, offset + compressedBytes),
      contentBytes,
    }));
    expect(containerOf(rows).equals(pack)).toBe(true);
  });

  test("gives any block without the frames around it", async () => {
    const pack = await packed(dense, "zstd");
    const { source, readBytes } = counted(pack);
    const view = new PackedView(source, "zstd");
    const opened = readBytes();
    expect(opened).toBeLessThan(1.1 * MIB);
    const block = new Uint8Array(1024);
    for (const [index, frames] of [
      [0, 0],
      [1500, 1],
      [1501, 1],
      [2900, 2],
    ] as const) {
      view.read(block, dense.dataOffset + index * 1024);
      expect(crc32(block)).toBe(crc32(dense.data[index] ?? ""));
      expect(readBytes() - opened).toBeLessThan((frames + 0.1) * MIB);
    }
  });

  test("in frames of other sizes, levels and windows is taken, too", async () => {
    for (const size of [1, 55, 1000, 4096, 100_000, 8 * MIB]) {
      const cow = size < 1000 ? tiny : dense;
      const pack = containerOf(honestRows(payloadOf(cow), size));
      expect(firstDifference((await unpackInMemory(pack)).content, cow.content)).toBeUndefined();
    }
  });
});

describe("a seek table that lies", () => {
  const payload = payloadOf(tiny);
  const [one] = honestRows(payload, payload.length) as [Row];
  const two = honestRows(payload, 3000) as [Row, Row];

  test("the honest ones of these are taken", async () => {
    for (const rows of [[one], two])
      expect(firstDifference((await unpackInMemory(containerOf(rows))).content, tiny.content)).toBeUndefined();
  });

  const zeros = new Uint8Array(64 * MIB);
  const told: readonly (readonly [title: string, rows: readonly Row[], more?: Lies])[] = [
    ["says a frame holds 4 GiB", [{ ...one, contentBytes: 2 ** 32 - 1 }]],
    ["says a frame holds nothing", [one, { ...one, contentBytes: 0 }]],
    ["says a frame holds more than it does", [{ ...one, contentBytes: payload.length + 1 }]],
    ["says a frame holds less than it does", [{ ...one, contentBytes: payload.length - 1 }]],
    ["says that a frame takes 4 GiB of the file", [{ ...one, compressedBytes: 2 ** 32 - 1 }]],
    ["says that a frame takes nothing", [{ ...one, compressedBytes: 0 }]],
    [
      "draws the border between two frames elsewhere",
      [
        { ...two[0], compressedBytes: two[0].frame.length + 1 },
        { ...two[1], compressedBytes: two[1].frame.length - 1 },
      ],
    ],
    [
      "takes the checksums of two frames for each other",
      [
        { ...two[0], checksum: Buffer.from(two[1].frame).readUInt32LE(two[1].frame.length - 4) },
        { ...two[1], checksum: Buffer.from(two[0].frame).readUInt32LE(two[0].frame.length - 4) },
      ],
    ],
    ["has the frames in another order", [two[1], two[0]]],
    ["has a frame twice", [two[0], two[1], two[1]]],
    ["lacks the last frame", [two[0]]],
    ["lacks all frames", []],
    ["counts a frame too many", [one], { frameCount: 2 }],
    ["counts 2^32-1 frames", [one], { frameCount: 2 ** 32 - 1 }],
    ["counts none", [one], { frameCount: 0 }],
    ["has another size than it says", [one], { tableSize: 22 }],
    ["has reserved bits set", [one], { descriptor: 0x81 }],
    ["has no checksums", [one], { descriptor: 0 }],
    ["stands behind another digest", [one], { digest: new Uint8Array(32) }],
    ["stands behind none", [one], { withoutDigest: true }],
    ["lists a frame without a checksum", [{ frame: zstdCompressSync(payload), contentBytes: payload.length }]],
    [
      "lists a skippable frame",
      [one, { frame: Buffer.concat([Buffer.from("502a4d1810000000", "hex"), Buffer.alloc(16)]), contentBytes: 1 }],
    ],
    ["hides 64 MiB of zeros in a frame of one block", [one, { frame: frameOf(zeros), contentBytes: 1024 }]],
    [
      "has 64 MiB of zeros behind the last block",
      [one, ...Array(64).fill({ frame: frameOf(zeros.subarray(0, MIB)), contentBytes: MIB })],
    ],
    ["has one byte behind the last block", [one, { frame: frameOf(Buffer.of(0)), contentBytes: 1 }]],
  ];

  const lies = told.map(([title, rows, more = {}]) => [title, rows, more] as const);

  test.each(lies)("%s: is refused", async (_, rows, more) => {
    const code = expect.stringMatching(/^(?:damaged|truncated|bad-head)$/);
    const unheard = await unheardDuring(async () => {
      await expect(unpackInMemory(containerOf(rows, more))).rejects.toMatchObject({ code, file: "in" });
    });
    expect(unheard).toEqual([]);
  });

  test.each(lies)("%s: a view of it reads nothing else than what was packed, or refuses", async (_, rows, more) => {
    let bytes: Uint8Array;
    try {
      const view = new PackedView(counted(containerOf(rows, more)).source, "zstd");
      bytes = new Uint8Array(view.sizeBytes);
      view.read(bytes, 0);
    } catch (error) {
      expect(error).toMatchObject({ name: "CowError", file: "in" });
      return;
    }
    expect(firstDifference(SparseBytes.from(bytes), tiny.content)).toBeUndefined();
  });

  test("what zstd itself makes has none, and is refused with a way out", async () => {
    for (const made of [zstdCompressSync(payload), frameOf(payload)]) {
      const failed = unpackInMemory(made);
      await expect(failed).rejects.toMatchObject({ file: "in", message: expect.stringMatching(/seek table.*missing/) });
      await expect(failed).rejects.toMatchObject({ hints: [expect.stringMatching(/cowtool pack/)] });
    }
  });
});
