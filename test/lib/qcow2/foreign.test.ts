/**
 * Proves that qcow2 files made by QEMU are read exactly, whatever they were made with: versions, cluster sizes,
 * compression, subclusters, zero clusters, discards, snapshots, backing chains.
 */
import { execFileSync } from "node:child_process";
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import type { ByteSource } from "../../../src/lib/bytes/byte-source.ts";
import { FileDevice } from "../../../src/lib/device/file-device.ts";
import type { Companions } from "../../../src/lib/formats/format.ts";
import { qcow2Format } from "../../../src/lib/formats/qcow2/index.ts";
import { CowError, convert } from "../../../src/lib/index.ts";
import { hasQemu, qemuImg, qemuIo } from "../../support/images/qemu-img.ts";
import { random } from "../../support/random.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const path = scratchDirectory();
/** More than one of the largest clusters. */
const SIZE = 3 * (1 << 20) + 512;

/** An image with data, zeros and holes in pieces of many sizes. */
function makeRaw(name: string, seed: number, size = SIZE): string {
  const next = random(seed);
  const below = (limit: number): number => Math.floor(next() * limit);
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; ) {
    const length = Math.min(size - at, 512 * (1 + below(700)));
    const kind = below(3);
    if (kind === 0) for (let i = at; i < at + length; i++) bytes[i] = below(256);
    else if (kind === 1) bytes.fill(1 + below(255), at, at + length);
    at += length;
  }
  writeFileSync(path(name), bytes);
  return path(name);
}

function open(file: string, settings: readonly string[] = []): ByteSource {
  const device = FileDevice.open(file);
  const companions: Companions = { open: (name) => FileDevice.open(join(dirname(file), name)) };
  return (
    qcow2Format.openImage?.(device, {
      allowDirty: false,
      companions,
      settings: new Map(settings.map((text) => [text.split("=")[0] ?? "", text.split("=")[1] ?? ""])),
    }) ?? device
  );
}

/** Reads it in pieces of odd sizes. */
function contentOf(image: ByteSource, piece = 777_777): Buffer {
  const bytes = Buffer.alloc(image.sizeBytes);
  for (let at = 0; at < bytes.length; at += piece) image.read(bytes.subarray(at, at + piece), at);
  return bytes;
}

/** What the image's extents say: all data is inside of them. */
function contentByExtents(image: ByteSource): Buffer {
  const bytes = Buffer.alloc(image.sizeBytes);
  for (const { offset, length } of image.dataExtents(0, image.sizeBytes))
    image.read(bytes.subarray(offset, offset + length), offset);
  return bytes;
}

function expectSame(image: ByteSource, raw: string): void {
  const wanted = readFileSync(raw);
  expect(image.sizeBytes).toBe(wanted.length);
  expect(Buffer.compare(contentOf(image), wanted)).toBe(0);
  expect(Buffer.compare(contentByExtents(image), wanted)).toBe(0);
}

/** As a conversion reads it, which unpacks on other threads. */
async function expectConverted(file: string, raw: string): Promise<void> {
  const output = path("converted.img");
  await convert(`qcow2:${file}`, output, { to: "raw", force: true }, {});
  expect(Buffer.compare(readFileSync(output), readFileSync(raw))).toBe(0);
}

async function problemsOf(file: string): Promise<string[]> {
  const report = await qcow2Format.check(FileDevice.open(file), {});
  return [...report.problems].map(({ id, message }) => `${id}: ${message}`);
}

const CASES: readonly (readonly [string, readonly string[]])[] = [
  ["version 2", ["-o", "compat=0.10"]],
  ["version 3", ["-o", "compat=1.1"]],
  ["compressed by zlib", ["-c"]],
  ["compressed by zlib, version 2", ["-c", "-o", "compat=0.10"]],
  ["compressed by zstd", ["-c", "-o", "compression_type=zstd"]],
  ...[512, 1024, 4096, 16384, 1 << 17, 1 << 19, 1 << 20, 1 << 21].flatMap((size): [string, string[]][] => [
    [`clusters of ${size} bytes`, ["-o", `cluster_size=${size}`]],
    [`compressed clusters of ${size} bytes`, ["-c", "-o", `cluster_size=${size}`]],
    [`zstd clusters of ${size} bytes`, ["-c", "-o", `cluster_size=${size},compression_type=zstd`]],
  ]),
  ["preallocated metadata", ["-o", "preallocation=metadata"]],
  ["preallocated in full", ["-o", "preallocation=falloc"]],
  ["late reference counts", ["-o", "lazy_refcounts=on"]],
  ["subclusters", ["-o", "extended_l2=on"]],
  ["large subclusters", ["-o", "extended_l2=on,cluster_size=1M"]],
  ["compressed with subclusters", ["-c", "-o", "extended_l2=on"]],
  ["preallocated subclusters", ["-o", "extended_l2=on,preallocation=metadata"]],
  ...[1, 2, 4, 8, 32, 64].map((bits): [string, string[]] => [
    `reference counts of ${bits} bits`,
    ["-o", `refcount_bits=${bits}`],
  ]),
];

describe.skipIf(!hasQemu)("qcow2 files of QEMU", () => {
  test.each(CASES)("%s", async (title, flags) => {
    const raw = makeRaw("source.img", CASES.findIndex(([name]) => name === title) + 1);
    const file = path("case.qcow2");
    qemuImg(["convert", "-f", "raw", "-O", "qcow2", ...flags, raw, file]);
    expectSame(open(file), raw);
    await expectConverted(file, raw);
    expect(await problemsOf(file)).toEqual([]);
  });

  test.each([
    ["standard", "cluster_size=65536"],
    ["small", "cluster_size=512"],
    ["subclusters", "extended_l2=on"],
    ["late reference counts", "lazy_refcounts=on"],
  ])("zero clusters, discards, rewrites: %s", async (_, options) => {
    const file = path("worked.qcow2");
    qemuImg(["create", "-f", "qcow2", "-o", options, file, "8M"]);
    qemuIo(file, [
      "write -P 1 0 4M",
      "write -z 1M 300k",
      "discard 2M 512k",
      "write -P 7 1234944 5632",
      "write -z -u 3M 256k",
    ]);
    qemuIo(file, ["write -c -P 9 5M 64k", "write -P 4 5M 4k", "write -z 7M 1M"]);
    const raw = path("worked.img");
    qemuImg(["convert", "-f", "qcow2", "-O", "raw", file, raw]);
    expectSame(open(file), raw);
    expect(await problemsOf(file)).toEqual([]);
  });

  test("a file with snapshots shows its current state, and is sound", async () => {
    const file = path("snapshots.qcow2");
    qemuImg(["create", "-f", "qcow2", file, "8M"]);
    qemuIo(file, ["write -P 1 0 3M"]);
    qemuImg(["snapshot", "-c", "first", file]);
    qemuIo(file, ["write -P 2 1M 1M", "write -z 2M 64k"]);
    qemuImg(["snapshot", "-c", "second", file]);
    qemuIo(file, ["write -P 3 0 70k"]);
    const raw = path("snapshots.img");
    qemuImg(["convert", "-f", "qcow2", "-O", "raw", file, raw]);
    expectSame(open(file), raw);
    expect(await problemsOf(file)).toEqual([]);
    const { facts } = await qcow2Format.describe(FileDevice.open(file), {});
    expect(facts).toMatchObject({ snapshots: 2, version: 3, virtual_size: 8 << 20 });
  });

  test("a file with a persistent bitmap is sound", async () => {
    const file = path("bitmap.qcow2");
    qemuImg(["create", "-f", "qcow2", file, "8M"]);
    qemuImg(["bitmap", "--add", file, "changes"]);
    qemuIo(file, ["write -P 1 0 3M"]);
    expect(await problemsOf(file)).toEqual([]);
    expect((await qcow2Format.describe(FileDevice.open(file), {})).facts).toMatchObject({ bitmaps: 1 });
  });

  test("a chain of backing files is read when asked for, and refused otherwise", () => {
    const base = makeRaw("chain-base.img", 77, 6 << 20);
    qemuImg(["create", "-f", "qcow2", "-b", "chain-base.img", "-F", "raw", path("middle.qcow2"), "8M"]);
    qemuIo(path("middle.qcow2"), ["write -P 5 1M 100k", "write -z 5M 64k", "write -P 6 7M 64k"]);
    qemuImg(["create", "-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", path("top.qcow2"), "9M"]);
    qemuIo(path("top.qcow2"), ["write -P 8 0 64k", "write -z 1M 64k"]);
    qemuImg(["convert", "-f", "qcow2", "-O", "raw", path("top.qcow2"), path("chain.img")]);
    expect(readFileSync(base).length).toBe(6 << 20);
    expectSame(open(path("top.qcow2"), ["backing"]), path("chain.img"));
    expect(() => open(path("top.qcow2"))).toThrow(/backing file "middle.qcow2"/);
  });

  test("a backing file without a format is not guessed at", () => {
    makeRaw("old-base.img", 78, 1 << 20);
    qemuImg([
      "create",
      "-f",
      "qcow2",
      "-u",
      "-b",
      "old-base.img",
      "-F",
      "raw",
      "-o",
      "compat=0.10",
      path("old.qcow2"),
      "1M",
    ]);
    const bytes = readFileSync(path("old.qcow2"));
    // The extension that names the format becomes one of an unknown type.
    bytes.writeUInt32BE(0x12345678, 72);
    writeFileSync(path("old.qcow2"), bytes);
    expect(() => open(path("old.qcow2"), ["backing"])).toThrow(/of which format its backing file is/);
    expectSame(open(path("old.qcow2"), ["backing", "backing-format=raw"]), path("old-base.img"));
  });

  test("a circle of backing files ends", () => {
    qemuImg(["create", "-f", "qcow2", "-u", "-b", "circle.qcow2", "-F", "qcow2", path("circle.qcow2"), "1M"]);
    expect(() => open(path("circle.qcow2"), ["backing"])).toThrow(/circle/);
  });

  test.each([
    [
      "encryption",
      ["--object", "secret,id=k,data=abc", "-o", "encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10"],
      /encrypted \(LUKS\)/,
    ],
    ["external data", ["-o", `data_file=${path("data.raw")}`], /data in another file/],
  ])("%s is refused, and described", async (_, flags, message) => {
    const file = path("refused.qcow2");
    qemuImg(["create", "-f", "qcow2", ...flags, file, "1M"]);
    expect(() => open(file)).toThrow(message);
    expect(() => open(file)).toThrow(CowError);
    expect((await qcow2Format.describe(FileDevice.open(file), {})).facts).toMatchObject({ virtual_size: 1 << 20 });
  });

  test("what qemu-img check finds, we find", async () => {
    const file = path("leaky.qcow2");
    qemuImg(["convert", "-f", "raw", "-O", "qcow2", makeRaw("leaky.img", 5), file]);
    const bytes = readFileSync(file);
    const l1 = Number(bytes.readBigUInt64BE(40));
    const l2 = Number(bytes.readBigUInt64BE(l1) & 0x00fffffffffffe00n);
    let at = l2;
    while (bytes.readBigUInt64BE(at) === 0n) at += 8;
    const fd = openSync(file, "r+");
    writeSync(fd, Buffer.alloc(8), 0, 8, at);
    closeSync(fd);
    expect(await problemsOf(file)).toEqual([expect.stringMatching(/^leak: the cluster/)]);
    expect(JSON.parse(qemuImg(["check", "--output=json", file], [3]))).toMatchObject({ leaks: 1 });
    execFileSync("qemu-img", ["check", "-r", "leaks", "-q", file]);
    expect(await problemsOf(file)).toEqual([]);
  });
});
