/**
 * Proves that nothing is written that is in use by way of the kernel: mounted, swapped to, a part of something else, or
 * read under another name of the same bytes. What sysfs and /proc say is made up here, but for loop devices, which root has.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, type Stats, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { lookedUpTogether, usesOf } from "../../../src/lib/device/sys/in-use.ts";
import { overlap, placesOf } from "../../../src/lib/device/sys/underlying.ts";
import { CowError, convert, create, merge, nodeStorage } from "../../../src/lib/index.ts";
import { skipsLoudly } from "../../support/command/real-process.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const scratch = scratchDirectory();
let count = 0;

/** A /proc and a /sys of those files. */
function roots(files: Readonly<Record<string, string>>): { readonly proc: string; readonly sys: string } {
  const root = scratch(`roots${count++}`);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  return { proc: join(root, "proc"), sys: join(root, "sys") };
}

/** Gives a device its folder below /sys/dev/block. */
function link(sys: string, number: string, folder: string): void {
  mkdirSync(join(sys, "dev/block"), { recursive: true });
  symlinkSync(join(sys, folder), join(sys, "dev/block", number));
}

/** What stat(2) says of block device MAJOR:MINOR. */
function device(major: number, minor: number) {
  const rdev = (major << 8) | minor;
  return { ...statSync(scratch(".")), rdev, isBlockDevice: () => true } as Stats;
}

const mount = (number: string, at: string, source: string): string =>
  `36 25 ${number} / ${at} rw,relatime shared:1 - ext4 ${source} rw\n`;

describe("what uses a file or device", () => {
  const file = scratch("image");
  writeFileSync(file, "an image");

  const found = (stat: Stats, at: ReturnType<typeof roots>) =>
    usesOf(stat, at).map(({ kind, what }) => `${kind}: ${what}`);

  test("nothing, where nothing is known", () => {
    expect(found(statSync(file), { proc: scratch("no"), sys: scratch("no") })).toEqual([]);
    expect(found(device(8, 1), { proc: scratch("no"), sys: scratch("no") })).toEqual([]);
  });

  test("a mount, by number, with a name that has blanks", () => {
    const at = roots({ "proc/self/mountinfo": mount("8:2", "/no", "/dev/x") + mount("8:1", "/a\\040b", "/dev/x") });
    expect(found(device(8, 1), at)).toEqual(["mount: is mounted at /a b"]);
  });

  test("a mount, in a table that many look-ups share until it is old, or they are done", async () => {
    const at = roots({ "proc/self/mountinfo": mount("8:1", "/a", "/dev/x") });
    await lookedUpTogether(async () => {
      writeFileSync(join(at.proc, "self/mountinfo"), mount("8:1", "/b", "/dev/x"));
      const now = performance.now.bind(performance);
      expect(found(device(8, 1), at)).toEqual(["mount: is mounted at /a"]);
      performance.now = () => now() + 1000;
      expect(found(device(8, 1), at)).toEqual(["mount: is mounted at /b"]);
      performance.now = now;
      writeFileSync(join(at.proc, "self/mountinfo"), "");
    }, at);
    expect(found(device(8, 1), at)).toEqual([]);
  });

  test("a mount that has a number of its own, by its source (btrfs, a file that is mounted by itself)", () => {
    const at = roots({ "proc/self/mountinfo": mount("0:45", "/srv", file) + mount("0:46", "/none", "tmpfs") });
    expect(found(statSync(file), at)).toEqual(["mount: is mounted at /srv"]);
  });

  test("swap", () => {
    const at = roots({ "proc/swaps": `Filename Type Size Used Priority\n${file}  file  1048572 0 -2\n` });
    expect(found(statSync(file), at)).toEqual(["swap: is used as swap space"]);
  });

  test("a mount of a partition, and of what device-mapper made of it", () => {
    const at = roots({
      "proc/self/mountinfo": mount("8:1", "/one", "/dev/sda1") + mount("253:0", "/two", "/dev/dm-0"),
      "sys/block/sda/dev": "8:0\n",
      "sys/block/sda/sda1/partition": "1\n",
      "sys/block/sda/sda1/dev": "8:1\n",
      "sys/block/sda/sda2/partition": "2\n",
      "sys/block/sda/sda2/dev": "8:2\n",
      "sys/block/sda/sda2/holders/dm-0/dev": "253:0\n",
      "sys/block/sda/sda2/holders/dm-0/dm/name": "vg-root\n",
    });
    link(at.sys, "8:0", "block/sda");
    link(at.sys, "8:2", "block/sda/sda2");
    expect(found(device(8, 0), at)).toEqual([
      "mount: holds /dev/sda1, which is mounted at /one",
      "holder: holds /dev/sda2, which is a part of /dev/mapper/vg-root, which is mounted at /two",
    ]);
    expect(found(device(8, 2), at)).toEqual(["holder: is a part of /dev/mapper/vg-root, which is mounted at /two"]);
  });

  test("a mount of the loop device that a file lies behind", () => {
    const at = roots({
      "proc/self/mountinfo": mount("7:9", "/mnt", "/dev/loop9"),
      "sys/block/loop9/dev": "7:9\n",
      "sys/block/loop9/loop/backing_file": `${file}\n`,
    });
    expect(found(statSync(file), at)).toEqual(["mount: is behind /dev/loop9, which is mounted at /mnt"]);
  });
});

describe("the same bytes under two names", () => {
  const file = scratch("disk");
  writeFileSync(file, "a disk");
  const { sys } = roots({
    "sys/block/loop1/loop/backing_file": `${file}\n`,
    "sys/block/loop1/loop/offset": "0\n",
    "sys/block/loop1/loop/sizelimit": "0\n",
    "sys/block/loop1/dev": "7:1\n",
    "sys/block/loop1/loop1p1/partition": "1\n",
    "sys/block/loop1/loop1p1/start": "2048\n",
    "sys/block/loop1/loop1p1/size": "2048\n",
    "sys/block/loop1/loop1p2/partition": "2\n",
    "sys/block/loop1/loop1p2/start": "4096\n",
    "sys/block/loop1/loop1p2/size": "2048\n",
    "sys/block/loop2/loop/backing_file": `${file}\n`,
    "sys/block/loop2/loop/offset": "2097152\n",
    "sys/block/loop2/loop/sizelimit": "0\n",
    "sys/block/dm-0/slaves/loop1p1/dev": "259:1\n",
    "sys/block/dm-1/slaves/loop1p1/dev": "259:1\n",
  });
  for (const [number, folder] of [
    ["7:1", "loop1"],
    ["259:1", "loop1/loop1p1"],
    ["259:2", "loop1/loop1p2"],
    ["7:2", "loop2"],
    ["253:0", "dm-0"],
    ["253:1", "dm-1"],
  ] as const)
    link(sys, number, `block/${folder}`);
  const of: Readonly<Record<string, Stats>> = {
    file: statSync(file),
    loop: device(7, 1),
    "first partition": device(259, 1),
    "second partition": device(259, 2),
    "loop from 2 MiB": device(7, 2),
    "volume on the first": device(253, 0),
    "another volume there": device(253, 1),
  };
  test.each([
    ["file", "loop", true],
    ["file", "first partition", true],
    ["loop", "second partition", true],
    ["first partition", "second partition", false],
    ["loop from 2 MiB", "second partition", true],
    ["loop from 2 MiB", "first partition", false],
    ["file", "volume on the first", true],
    ["first partition", "volume on the first", true],
    ["volume on the first", "another volume there", false],
  ] as const)("%s and %s: %s", (a, b, expected) => {
    const places = (name: string) => placesOf(of[name] ?? statSync(file), sys);
    expect(overlap(places(a), places(b))).toBe(expected);
    expect(overlap(places(b), places(a))).toBe(expected);
  });
});

const gold = scratch("gold.img");
writeFileSync(gold, Buffer.alloc(1 << 20, 1));
const loops: string[] = [];
const setUp = (): string => {
  const { status, stdout } = spawnSync("losetup", ["--find", "--show", gold], { encoding: "utf8" });
  if (status === 0) loops.push(stdout.trim());
  return stdout?.trim() ?? "";
};
const loop = setUp();
const isSkipped = skipsLoudly(loop === "", "images in use by way of loop devices: root only");
afterAll(() => {
  for (const each of loops) execFileSync("losetup", ["--detach", each]);
});

describe.skipIf(isSkipped)("by way of a loop device", () => {
  const refusal = async (act: () => unknown): Promise<CowError> => {
    try {
      await act();
    } catch (error) {
      if (error instanceof CowError) return error;
      throw error;
    }
    throw new Error("it was not refused");
  };
  const changed = scratch("changed.img");
  writeFileSync(changed, Buffer.alloc(1 << 20, 2));

  test("a base that is read under its own name is not written through the device, nor the other way round", async () => {
    for (const [read, written] of [
      [gold, loop],
      [loop, gold],
    ] as const) {
      const reader = nodeStorage.open(read, { lock: "shared" });
      nodeStorage.open(written, { lock: "shared" }).close();
      const error = await refusal(() => nodeStorage.open(written, { writable: true, lock: "exclusive" }));
      expect(error).toMatchObject({ code: "locked", file: written });
      reader.close();
      nodeStorage.open(written, { writable: true, lock: "exclusive" }).close();
    }
  });

  test("an output must not be an input, nor on the disk space of one", async () => {
    const other = setUp();
    for (const [input, output] of [
      [gold, loop],
      [loop, gold],
      [loop, other],
    ] as const)
      expect(await refusal(() => convert(input, output, { to: "raw", force: true }, {}))).toMatchObject({
        code: "usage",
        file: output,
      });
  });

  test("a device that another process has claimed is not written, not even with --force", async () => {
    const cow = scratch("claimed.cow");
    await create(loop, cow, { from: changed, identity: "none" }, {});
    const claim = nodeStorage.open(loop, { writable: true, lock: "none" });
    for (const request of [{}, { force: true }, { dryRun: true }])
      for (const base of [loop, gold])
        expect(await refusal(() => merge(base, cow, request, {}))).toMatchObject({
          code: "locked",
          file: base,
          details: { in_use: "claim" },
        });
    claim.close();
  });

  test("a mounted device is not merged into, nor the file behind it; --force does", async () => {
    if (skipsLoudly(spawnSync("mkfs.ext4", ["-q", loop]).status !== 0, "merging into what is mounted: no mkfs.ext4"))
      return;
    const cow = scratch("mounted.cow");
    const at = scratch("mnt");
    mkdirSync(at);
    await create(loop, cow, { from: changed, identity: "none" }, {});
    execFileSync("mount", ["-o", "ro", loop, at]);
    try {
      for (const base of [loop, gold]) {
        for (const dryRun of [false, true]) {
          const error = await refusal(() => merge(base, cow, { dryRun }, {}));
          expect(error).toMatchObject({ code: "locked", file: base, details: { in_use: "mount" } });
          expect(error.message).toContain(`mounted at ${at}`);
        }
      }
      expect(await merge(loop, cow, { force: true, dryRun: true }, {})).toMatchObject({ dry_run: true });
    } finally {
      execFileSync("umount", [at]);
    }
  });
});
