/**
 * Proves what `info` and `check` tell of images that are no cowfiles, and of stacks: content, partitions, the chain with who
 * has it open and what does not fit, an interrupted merge; and the hint for a base and a layer in the wrong order.
 */
import { spawnSync } from "node:child_process";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { crc32 } from "node:zlib";
import { describe, expect, test } from "vitest";
import { merge, type Progress } from "../../src/lib/index.ts";
import { isInstalled } from "../support/command/documents.ts";
import { pictureOf, useImages } from "../support/command/files.ts";
import { expectErrorJson, expectJson, run } from "../support/command/harness.ts";
import { skipsLoudly } from "../support/command/real-process.ts";
import { holdLocks } from "../support/lock-holder.ts";

const at = useImages();

async function infoOf(text: string, ...flags: readonly string[]): Promise<Record<string, unknown>> {
  const ran = await run("info", [text, "--json", ...flags]);
  expect(ran.status, ran.stdout).toBe(0);
  return expectJson(ran.stdout, "info");
}

const SECTOR = 512;
const MKE2FS = "mke2fs";
const PARTX = "partx";

/** An image with these bytes at these places. */
function imageOf(sizeBytes: number, ...parts: readonly (readonly [at: number, bytes: Uint8Array | string])[]): Buffer {
  const image = Buffer.alloc(sizeBytes);
  for (const [offset, bytes] of parts)
    image.set(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes, offset);
  return image;
}

const u16 = (value: number): Uint8Array => Uint8Array.of(value & 0xff, value >> 8);
const u32 = (value: number): Buffer => Buffer.from(Uint32Array.of(value).buffer);

function mbrEntry(type: number, start: number, count: number): Buffer {
  return Buffer.concat([Uint8Array.of(0, 0, 0, 0, type, 0, 0, 0), u32(start), u32(count)]);
}

/** The magic number of each kind, where it is. */
const KINDS: readonly (readonly [type: string, ...parts: (readonly [at: number, bytes: Uint8Array | string])[]])[] = [
  ["ext2", [1080, u16(0xef53)]],
  ["ext3", [1080, u16(0xef53)], [1116, u32(4)]],
  ["ext4", [1080, u16(0xef53)], [1116, u32(4)], [1120, u32(0x40)]],
  ["xfs", [0, "XFSB"]],
  ["btrfs", [65600, "_BHRfS_M"]],
  ["fat32", [510, u16(0xaa55)], [82, "FAT32   "]],
  ["fat16", [510, u16(0xaa55)], [54, "FAT16   "]],
  ["ntfs", [510, u16(0xaa55)], [3, "NTFS    "]],
  ["swap", [4086, "SWAPSPACE2"]],
  ["luks", [0, "LUKS\xba\xbe"]],
  ["iso9660", [32769, "CD001"]],
  ["squashfs", [0, "hsqs"]],
];

describe("info of a raw image", () => {
  test.each(KINDS.map(([type, ...parts]) => ({ type, parts })))(
    "knows $type, alone and in a partition",
    async ({ type, parts }) => {
      writeFileSync(at("disk.img"), imageOf(1 << 20, ...parts));
      expect(await infoOf(at("disk.img"))).toMatchObject({
        format: "raw",
        virtual_size: 1 << 20,
        content: { type },
        partitions: [],
      });
      const moved = parts.map(([offset, bytes]) => [offset + 2048 * SECTOR, bytes] as const);
      const table = [446, mbrEntry(0x83, 2048, 2048)] as const;
      writeFileSync(at("disk.img"), imageOf(2 << 20, [510, u16(0xaa55)], table, ...moved));
      expect(await infoOf(at("disk.img"))).toMatchObject({
        partition_table: "mbr",
        content: null,
        partitions: [{ number: 1, offset: 1 << 20, size: 1 << 20, type: "Linux", content: { type } }],
      });
    },
  );

  test("reads logical partitions, and is not led in a circle", async () => {
    const [extended, first] = [mbrEntry(0x05, 100, 900), mbrEntry(0x83, 10, 50)];
    const disk = imageOf(
      1 << 20,
      [446, extended],
      [510, u16(0xaa55)],
      [100 * SECTOR + 446, Buffer.concat([first, mbrEntry(0x05, 200, 100)])],
      [100 * SECTOR + 510, u16(0xaa55)],
      // The next record points back.
      [300 * SECTOR + 446, Buffer.concat([first, mbrEntry(0x05, 0, 100)])],
      [300 * SECTOR + 510, u16(0xaa55)],
    );
    writeFileSync(at("disk.img"), disk);
    const { partitions } = await infoOf(at("disk.img"));
    expect(partitions).toMatchObject([
      { number: 1, type: "extended", offset: 100 * SECTOR },
      { number: 5, offset: 110 * SECTOR, size: 50 * SECTOR },
      { number: 6, offset: 310 * SECTOR },
    ]);
  });

  /** `[at, links to]` of boot records; those without a partition are empty. */
  function withRecords(...records: readonly (readonly [at: number, next: number, isEmpty?: boolean])[]): Buffer {
    const [start, count] = [64, 8000];
    const parts = records.flatMap(([at, next, isEmpty = false]) => {
      const entries = [
        isEmpty ? Buffer.alloc(16) : mbrEntry(0x83, 8, 16),
        next ? mbrEntry(0x05, next, 64) : Buffer.alloc(16),
      ];
      const from = (start + at) * SECTOR;
      return [[from + 446, Buffer.concat(entries)] as const, [from + 510, u16(0xaa55)] as const];
    });
    return imageOf(5 << 20, [446, mbrEntry(0x05, start, count)], [510, u16(0xaa55)], ...parts);
  }

  test("follows boot records that go back, and those that are empty, as partx does", async () => {
    writeFileSync(
      at("disk.img"),
      withRecords([0, 3000], [3000, 1000], [1000, 2000, true], [2000, 4000], [4000, 0, true]),
    );
    const { partitions, more_partitions: more } = await infoOf(at("disk.img"));
    const found = (partitions as { number: number; offset: number }[]).map((each) => [
      each.number,
      each.offset / SECTOR,
    ]);
    expect([found, more]).toEqual([[1, 5, 6, 7].map((number, i) => [number, [64, 72, 3072, 2072][i]]), false]);
    const partx = spawnSync(PARTX, ["-g", "-o", "NR,START", at("disk.img")], { encoding: "utf8" });
    if (!partx.error) expect(partx.stdout.trim().split(/\s+/).map(Number)).toEqual(found.flat());
  });

  test("says that there are more partitions than it lists", async () => {
    const records = Array.from({ length: 128 }, (_, i) => [i * 32, i === 127 ? 0 : (i + 1) * 32] as const);
    for (const [count, more] of [
      [127, false],
      [128, true],
    ] as const) {
      const last = records.slice(0, count).map(([at, next], i) => [at, i === count - 1 ? 0 : next] as const);
      writeFileSync(at("disk.img"), withRecords(...last));
      const facts = await infoOf(at("disk.img"));
      expect([(facts["partitions"] as []).length, facts["more_partitions"]]).toEqual([128, more]);
    }
    const { stdout } = await run("info", [at("disk.img")]);
    expect(stdout).toMatch(/^partitions: +128 and more \(mbr\)$/m);
    expect(stdout).toMatch(/^132 .*\nand more$|\nand more$/m);
    for (const [used, more] of [
      [128, false],
      [129, true],
    ] as const) {
      const header = Buffer.alloc(92);
      header.write("EFI PART");
      for (const [offset, value] of [
        [12, 92],
        [72, 2],
        [80, 256],
        [84, 128],
      ] as const)
        header.writeUInt32LE(value, offset);
      header.writeUInt32LE(crc32(header), 16);
      const entries = Buffer.alloc(256 * 128);
      for (let i = 0; i < used; i++) {
        // Every entry but the first: one is left free.
        entries.set(Buffer.from("af3dc60f838472478e793d69d8477de4", "hex"), (i + 1) * 128);
        entries.writeBigUInt64LE(BigInt(100 + i), (i + 1) * 128 + 32);
        entries.writeBigUInt64LE(BigInt(100 + i), (i + 1) * 128 + 40);
      }
      const mbr = [[446, mbrEntry(0xee, 1, 100)] as const, [510, u16(0xaa55)] as const];
      writeFileSync(at("disk.img"), imageOf(1 << 20, ...mbr, [512, header], [1024, entries]));
      const facts = await infoOf(at("disk.img"));
      const partitions = facts["partitions"] as { number: number }[];
      expect([partitions.length, partitions.at(-1)?.number, facts["more_partitions"]]).toEqual([128, 129, more]);
    }
  });

  test.each([512, 4096])("reads a GPT with sectors of %i bytes, if its checksum is right", async (sector) => {
    const header = Buffer.alloc(92);
    header.write("EFI PART");
    header.writeUInt32LE(92, 12);
    header.writeBigUInt64LE(2n, 72);
    header.writeUInt32LE(4, 80);
    header.writeUInt32LE(128, 84);
    const entry = Buffer.alloc(128);
    entry.set(Buffer.from("af3dc60f838472478e793d69d8477de4", "hex"));
    entry.writeBigUInt64LE(16n, 32);
    entry.writeBigUInt64LE(31n, 40);
    entry.write("root\u202e", 56, "utf16le");
    header.writeUInt32LE(crc32(header), 16);
    const parts = [
      [446, mbrEntry(0xee, 1, 100)],
      [510, u16(0xaa55)],
      [sector, header],
      [2 * sector, entry],
    ] as const;
    writeFileSync(at("disk.img"), imageOf(1 << 20, ...parts, [16 * sector, "XFSB"]));
    expect(await infoOf(at("disk.img"))).toMatchObject({
      partition_table: "gpt",
      partitions: [
        {
          number: 1,
          offset: 16 * sector,
          size: 16 * sector,
          type: "Linux",
          name: "root\u202e",
          content: { type: "xfs" },
        },
      ],
    });
    expect((await run("info", [at("disk.img")])).stdout).toMatch(/^1 +\d+ +\d+ KiB +Linux "root\\u202e" +xfs$/m);
    writeFileSync(at("disk.img"), imageOf(1 << 20, ...parts, [sector + 80, u32(5)]));
    expect(await infoOf(at("disk.img"))).toMatchObject({ partition_table: "mbr" });
  });

  const noMke2fs = skipsLoudly(!isInstalled(MKE2FS), "no mke2fs (package e2fsprogs): no real file system is looked at");

  test.skipIf(noMke2fs)("agrees with mke2fs, and looks into a qcow2 file as well", async () => {
    const uuid = "01234567-89ab-cdef-0123-456789abcdef";
    const path = ["/usr/sbin", "/sbin", process.env["PATH"]].join(":");
    const argv = ["-q", "-t", "ext4", "-L", "golden", "-U", uuid, at("disk.img"), "8M"];
    expect(spawnSync(MKE2FS, argv, { env: { ...process.env, PATH: path } }).status).toBe(0);
    const content = { type: "ext4", label: "golden", uuid, size: 8 << 20 };
    expect((await infoOf(at("disk.img")))["content"]).toEqual(content);
    expect((await run("convert", [at("disk.img"), at("disk.qcow2"), "--to", "qcow2"])).status).toBe(0);
    expect((await infoOf(at("disk.qcow2")))["content"]).toEqual(content);
  });

  test("of a half-merged base tells how to go on", async () => {
    const stop = new AbortController();
    const context = { signal: stop.signal, onProgress: ({ phase }: Progress) => phase === "merging" && stop.abort() };
    await expect(merge(at("base.img"), at("vm.cow"), {}, context)).rejects.toThrow("interrupted");
    const facts = await infoOf(at("base.img"));
    expect(facts["pending_merge"]).toMatchObject({ cowfile: at("vm.cow") });
    expect(facts["problems"]).toMatchObject([{ id: "pending-merge", severity: "error" }]);
    const ran = await run("info", [at("base.img")]);
    expect(ran.stdout).toMatch(/^merge: +interrupted: holds a part of .*\n +complete it with `cowtool merge /m);
    expect(
      expectJson((await run("check", [`${at("base.img")},${at("sibling.cow")}`, "--json"])).stdout, "check"),
    ).toMatchObject({
      layers: [{ problems: [{ id: "pending-merge" }] }, {}],
    });
  });
});

describe("info and check of a stack", () => {
  const stackOf = (...names: readonly string[]): string => names.map(at).join(",");

  test("show each part, and what does not fit", async () => {
    const before = pictureOf(at(""));
    const facts = await infoOf(stackOf("base.img", "vm.cow", "top.cow"));
    expect(facts).toMatchObject({ format: "stack", virtual_size: 300 * 1024, problems: [] });
    expect(facts["chain"]).toMatchObject([
      { format: "raw", fits: null, state: null },
      { format: "cowfile", fits: true, state: "clean", allocated: 10 * 1024, open_by: [] },
      { format: "cowfile", fits: true },
    ]);
    const wrong = await run("check", [stackOf("base.img", "top.cow"), "--json"]);
    expect([wrong.status, expectJson(wrong.stdout, "check")["layers"]]).toMatchObject([
      4,
      [{ fits: null }, { fits: false }],
    ]);
    expect(wrong.stdout).toContain('"base-fingerprint"');
    const dirty = await run("check", [stackOf("base.img", "dirty.cow", "top.cow")], { columns: 150 });
    expect(dirty.stdout).toMatch(/dirty\.cow +cowfile +dirty +yes +dirty, unmarked-data$/m);
    expect(Object.keys(pictureOf(at(""))).length).toBeGreaterThan(Object.keys(before).length);
  });

  test("say of a damaged layer what is wrong, and go on", async () => {
    truncateSync(at("vm.cow"), 1500);
    const { chain, virtual_size: size } = await infoOf(stackOf("base.img", "vm.cow", "top.cow"));
    const problem = { severity: "error", id: "truncated", offset: 1500 };
    expect([chain, size]).toMatchObject([[{}, { problems: [problem] }, { fits: null }], null]);
    const ran = await run("check", [stackOf("base.img", "vm.cow", "top.cow"), "--json"]);
    expect([ran.status, expectJson(ran.stdout, "check")["layers"]]).toMatchObject([
      4,
      [{}, { problems: [{ id: "bitmap-truncated" }] }, {}],
    ]);
  });

  test("info names the process that writes a layer and judges nothing; check refuses it", async () => {
    const holder = await holdLocks(false);
    try {
      await holder.lock(at("vm.cow"));
      const stack = stackOf("base.img", "vm.cow", "top.cow");
      const { chain } = await infoOf(stack);
      expect(chain).toMatchObject([
        { open_by: [], being_written: false },
        { open_by: [{ pid: holder.pid, writes: true }], being_written: true, state: null, fits: null, problems: [] },
        { being_written: false, state: "clean", fits: null },
      ]);
      const { stdout } = await run("info", [stack], { columns: 200 });
      expect(stdout).toMatch(/vm\.cow +cowfile +being written +\d.* - +pid/m);
      expect(stdout).toContain(`${at("vm.cow")} is being written, and was read without a lock: `);
      expect((await run("info", [stack, at("base.img")], { columns: 200 })).stdout).toMatch(/ stack +being written /);
      for (const file of [at("vm.cow"), stack]) {
        const { code, hints } = expectErrorJson(await run("check", [file, "--json"]), 8);
        expect([code, hints.join()]).toEqual(["locked", expect.stringContaining("--force-share")]);
        expect((await run("check", [file, "--force-share"])).status).toBe(0);
      }
    } finally {
      await holder.end();
    }
  });
});

describe("a base and a layer in the wrong order", () => {
  test.each([
    ["merge", ["-y"]],
    ["verify-fingerprint", []],
    ["invert", ["-o", "new.img", "--layer", "new.cow"]],
    ["serve", ["--listen", "127.0.0.1:0"]],
  ])("are recognised by %s", async (name, flags) => {
    const before = readFileSync(at("base.img"));
    const argv = [at("vm.cow"), at("base.img"), ...flags.map((word) => (word.includes("new") ? at(word) : word))];
    const { status, stderr } = await run(name, argv);
    expect(status).toBeGreaterThan(1);
    expect(stderr).toContain(
      `hint: ${at("base.img")} is a raw image, ${at("vm.cow")} a cowloop cowfile: did you mean \`cowtool ${name} ${at("base.img")} ${at("vm.cow")}\`?`,
    );
    expect(readFileSync(at("base.img")).equals(before)).toBe(true);
  });

  test("are recognised by create", async () => {
    const { status, stderr } = await run("create", [at("made.cow"), at("base.img")]);
    expect(status).toBe(8);
    expect(stderr).toContain(
      `hint: ${at("base.img")} is a raw image, and the base comes first: did you mean \`cowtool create ${at("base.img")} ${at("made.cow")}\`?`,
    );
    expect((await run("create", [at("made.cow"), at("vm.cow")])).stderr).not.toContain("did you mean");
  });
});
