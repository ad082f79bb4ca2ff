/**
 * Proves what a full disk does: cowtool refuses before the first write where it can know, stops with exit status 8 where
 * it cannot, loses nothing, and the same command completes the job once there is space. On a real file system that is
 * really full: a small tmpfs, for which one has to be root.
 */
import { execFileSync, spawnSync } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { check, create } from "../../src/lib/index.ts";
import { pictureOf } from "../support/command/files.ts";
import { expectErrorJson, expectErrorLine, type Ran, run } from "../support/command/harness.ts";
import { finish, skipsLoudly } from "../support/command/real-process.ts";
import { noise } from "../support/random.ts";
import { scratchDirectory } from "../support/scratch.ts";

const MIB = 1 << 20;
/** Big enough for one result, not for that and the filler. */
const DISK_MIB = 16;

const at = scratchDirectory();
const disk = at("disk");
const on = (name: string): string => join(disk, name);

mkdirSync(disk);
const isMounted = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${DISK_MIB}m`, "tmpfs", disk]).status === 0;
const isSkipped = skipsLoudly(!isMounted, "full disks: a tmpfs can be mounted by root only");
afterAll(() => {
  if (isMounted) execFileSync("umount", [disk]);
});

/** `base.img` is 12 MiB, of which the first is data; `vm.cow` holds 8 MiB of data where the base has holes. */
beforeAll(async () => {
  writeFileSync(at("base.img"), noise(MIB, 1));
  truncateSync(at("base.img"), 12 * MIB);
  const merged = Buffer.alloc(12 * MIB);
  merged.set(readFileSync(at("base.img")));
  for (let mebibyte = 2; mebibyte < 10; mebibyte++) merged.set(noise(MIB, mebibyte), mebibyte * MIB);
  writeFileSync(at("merged.img"), merged);
  await create(at("base.img"), at("vm.cow"), { from: at("merged.img") }, {});
});

/** Copies by hand keep the holes, which take no space on the small disk. */
beforeEach(() => {
  if (isSkipped) return;
  for (const name of readdirSync(disk)) rmSync(on(name));
  execFileSync("cp", ["--sparse=always", at("base.img"), on("base.img")]);
});

/** Takes all but `leftMib` MiB of the disk. */
function fill(leftMib: number): void {
  const free = Number(execFileSync("df", ["-B1", "--output=avail", disk]).toString().split("\n")[1]);
  writeFileSync(on("filler"), new Uint8Array(Math.max(0, free - leftMib * MIB)));
}

function free(): void {
  rmSync(on("filler"));
}

function expectMerged(file: string): void {
  expect(Buffer.compare(readFileSync(file), readFileSync(at("merged.img")))).toBe(0);
}

/** Without system calls it has to be a process of its own. */
const runHere = ([name = "", ...argv]: readonly string[], env?: Readonly<Record<string, string>>): Promise<Ran> =>
  env ? finish([name, ...argv], { env }) : run(name, argv);

const inPlace = (...flags: string[]): string[] => ["merge", on("base.img"), at("vm.cow"), "-y", ...flags];

describe.skipIf(isSkipped)("merge in place, on a full disk", () => {
  test("refuses before the first write, saying how much is missing, and completes when there is space", async () => {
    fill(3);
    const before = pictureOf(disk);
    for (const flags of [[], ["-n"], ["--undo", at("undo.cow")]]) {
      const line = expectErrorLine(await runHere(inPlace(...flags)), 8);
      expect(line).toContain(on("base.img"));
      expect(line).toMatch(/8388608 bytes of holes.*nothing was changed$/);
      const error = expectErrorJson(await runHere(inPlace(...flags, "--json")), 8);
      expect(error).toMatchObject({ code: "no-space", details: { needed_bytes: 8 * MIB } });
      expect(pictureOf(disk)).toEqual(before);
    }
    free();
    expect((await runHere(inPlace())).status).toBe(0);
    expectMerged(on("base.img"));
  });

  test.each([
    ["--force begins it all the same", ["-f"], undefined],
    ["without system calls nobody knows before", [], { COWTOOL_NO_FFI: "1" }],
  ])("%s: stops with the file and the offset, and completes when there is space", async (_, flags, env) => {
    const before = readFileSync(on("base.img"));
    const cow = pictureOf(at("."))["vm.cow"];
    fill(3);
    const line = expectErrorLine(await runHere(inPlace(...flags), env), 8);
    expect(line).toContain(on("base.img"));
    expect(line).toMatch(/at byte \d+ \(0x[0-9a-f]+\).*no space left/);

    const half = readFileSync(on("base.img"));
    const merged = readFileSync(at("merged.img"));
    for (let block = 0; block < half.length; block += 1024) {
      const is = half.subarray(block, block + 1024);
      const isOldOrNew = [before, merged].some((image) => is.equals(image.subarray(block, block + 1024)));
      expect(isOldOrNew, `block at ${block} is old or new`).toBe(true);
    }
    expectErrorLine(await runHere(["create", on("base.img"), at("never.cow")]), 4);
    const again = await runHere(inPlace(...flags), env);
    expectErrorLine(again, 8);

    free();
    const done = await runHere(inPlace("--json"), env);
    expect(JSON.parse(done.stdout)).toMatchObject({ resumed: true, blocks_merged: 8192 });
    expectMerged(on("base.img"));
    expect(pictureOf(at("."))["vm.cow"]).toEqual(cow);
    expect(readdirSync(disk)).toEqual(["base.img"]);
  });

  test("not even a note can be made: nothing was changed", async () => {
    fill(0);
    const before = pictureOf(disk);
    expect(expectErrorLine(await runHere(inPlace("-f")), 8)).toContain("no space left");
    expect(pictureOf(disk)).toEqual(before);
    free();
    expect((await runHere(inPlace())).status).toBe(0);
    expectMerged(on("base.img"));
  });

  test("the undo file finds no space: the base is untouched, and no piece of the undo file is left", async () => {
    copyFileSync(at("merged.img"), on("base.img"));
    await create(on("base.img"), at("back.cow"), { from: at("base.img"), force: true }, {});
    const argv = ["merge", on("base.img"), at("back.cow"), "-y", "--undo", on("undo.cow")];
    fill(2);
    const before = pictureOf(disk);
    const line = expectErrorLine(await runHere(argv), 8);
    expect(line).toContain(on("undo.cow"));
    expect(pictureOf(disk)).toEqual(before);
    expectErrorLine(await finish(argv, { env: { COWTOOL_NO_FFI: "1" } }), 8);
    expect(pictureOf(disk)).toEqual(before);
  });
});

describe.skipIf(isSkipped)("new files, on a full disk", () => {
  const jobs: readonly (readonly [string, readonly string[], string])[] = [
    ["merge -o", ["merge", at("base.img"), at("vm.cow"), "-o", on("new.img")], "new.img"],
    ["create --from", ["create", at("base.img"), on("new.cow"), "--from", at("merged.img")], "new.cow"],
  ];
  test.each(jobs)("%s leaves nothing behind, and succeeds when there is space", async (_, argv, name) => {
    fill(3);
    const before = pictureOf(disk);
    for (const env of [undefined, { COWTOOL_NO_FFI: "1" }]) {
      const line = expectErrorLine(await runHere(argv, env), 8);
      expect(line).toContain(on(name));
      expect(line).toContain("no space left");
      expect(pictureOf(disk)).toEqual(before);
    }
    free();
    expect((await runHere(argv)).status).toBe(0);
    if (name === "new.img") expectMerged(on(name));
  });

  test("merge -o -f keeps the file that it was to replace", async () => {
    writeFileSync(on("new.img"), "precious");
    fill(3);
    expectErrorLine(await runHere(["merge", at("base.img"), at("vm.cow"), "-f", "-o", on("new.img")]), 8);
    expect(readFileSync(on("new.img"), "utf8")).toBe("precious");
  });
});

describe.skipIf(isSkipped)("repair, on a full disk", () => {
  test("leaves the cowfile dirty where its bitmap needs space, and completes when there is some", async () => {
    // The bitmap of 96 MiB has four pages; the last of them is a hole, and the unmarked block belongs there.
    writeFileSync(at("sparse.img"), "");
    truncateSync(at("sparse.img"), 96 * MIB);
    const { data_offset } = await create(at("sparse.img"), on("dirty.cow"), {}, {});
    const fd = openSync(on("dirty.cow"), "r+");
    writeSync(fd, Uint8Array.of(1), 0, 1, 6);
    writeSync(fd, noise(1024, 1), 0, 1024, data_offset + 95 * MIB);
    closeSync(fd);
    execFileSync("cp", ["--sparse=always", on("dirty.cow"), at("reference.cow")]);
    expect((await runHere(["repair", at("reference.cow")])).status).toBe(0);
    fill(0);
    const line = expectErrorLine(await runHere(["repair", on("dirty.cow")]), 8);
    expect(line).toMatch(/cannot write at byte \d+.*no space left/);
    expect((await check(on("dirty.cow"), {}, {})).state).toBe("dirty");
    free();
    expect((await runHere(["repair", on("dirty.cow")])).status).toBe(0);
    expect(readFileSync(on("dirty.cow")).equals(readFileSync(at("reference.cow")))).toBe(true);
  });
});
