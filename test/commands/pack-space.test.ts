/**
 * Proves what a full disk does to packing and unpacking: exit status 8, the file named, nothing left behind, what was to
 * be replaced still there, and success once there is space. On a small tmpfs, for which one has to be root.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { pictureOf } from "../support/command/files.ts";
import { expectErrorJson, expectErrorLine } from "../support/command/harness.ts";
import { finish, skipsLoudly, start } from "../support/command/real-process.ts";
import { denseCow, packed } from "../support/images/pack-images.ts";
import { scratchDirectory } from "../support/scratch.ts";

const MIB = 1 << 20;
const DISK_MIB = 16;
const FORMATS = ["zstd", "gzip", "plain"] as const;

const at = scratchDirectory();
const disk = at("disk");
const on = (name: string): string => join(disk, name);

mkdirSync(disk);
const isMounted = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${DISK_MIB}m`, "tmpfs", disk]).status === 0;
const isSkipped = skipsLoudly(!isMounted, "packing to full disks: a tmpfs can be mounted by root only");
afterAll(() => {
  if (isMounted) execFileSync("umount", [disk]);
});

/** Eight MiB that do not compress: every output needs as much. */
const cow = denseCow(8192);

beforeAll(async () => {
  writeFileSync(at("vm.cow"), cow.content.toBytes());
  for (const format of FORMATS) writeFileSync(at(`vm.${format}`), await packed(cow, format));
});

beforeEach(() => {
  if (isSkipped) return;
  for (const name of readdirSync(disk)) rmSync(on(name), { recursive: true });
});

/** Takes all but `leftMib` MiB of the disk. */
function fill(leftMib: number): void {
  rmSync(on("filler"), { force: true });
  const free = Number(execFileSync("df", ["-B1", "--output=avail", disk]).toString().split("\n")[1]);
  writeFileSync(on("filler"), new Uint8Array(Math.max(0, free - leftMib * MIB)));
}

const JOBS = FORMATS.flatMap((format) => [
  [`pack to ${format}`, ["pack", at("vm.cow"), on("new"), `--format=${format}`], `vm.${format}`] as const,
  [`unpack of ${format}`, ["unpack", at(`vm.${format}`), on("new")], "vm.cow"] as const,
]);

describe.skipIf(isSkipped)("on a full disk", () => {
  test.each(JOBS)("%s leaves nothing behind, and succeeds when there is space", async (_, argv, result) => {
    fill(3);
    const before = pictureOf(disk);
    const line = expectErrorLine(await finish(argv), 8);
    expect(line).toContain(on("new"));
    expect(line).toContain("no space left");
    expect(pictureOf(disk)).toEqual(before);
    fill(0);
    const error = expectErrorJson(await finish([...argv, "--json"], { env: { COWTOOL_NO_FFI: "1" } }), 8);
    expect(error).toMatchObject({ code: "no-space", details: { file: on("new") } });
    expect(readdirSync(disk)).toEqual(["filler"]);
    rmSync(on("filler"));
    expect((await finish(argv)).status).toBe(0);
    expect(readFileSync(on("new")).equals(readFileSync(at(result)))).toBe(true);
  });

  test.each(JOBS.slice(0, 2))("%s -f keeps the file that it was to replace", async (_, argv) => {
    writeFileSync(on("new"), "precious");
    fill(3);
    expectErrorLine(await finish([...argv, "-f"]), 8);
    expect(readFileSync(on("new"), "utf8")).toBe("precious");
    expect(readdirSync(disk).sort()).toEqual(["filler", "new"]);
  });

  test.each([
    ["pack of stdin", ["pack", "-", at("never")], "vm.cow"],
    ["unpack of stdin", ["unpack", "-", at("never")], "vm.zstd"],
    ["unpack to stdout", ["unpack", at("vm.zstd"), "-"], ""],
  ])("%s: no space for the scratch file is status 8, and nothing is left", async (_, argv, input) => {
    fill(3);
    const started = start(argv, { env: { TMPDIR: disk }, stdio: ["pipe", "pipe", "pipe"] });
    started.child.stdin?.on("error", () => undefined);
    started.child.stdin?.end(input === "" ? "" : readFileSync(at(input)));
    const ran = await started.ended;
    const line = expectErrorLine(ran, 8);
    expect(line).toContain("no space left");
    expect(readdirSync(disk)).toEqual(["filler"]);
    expect(readdirSync(at(""))).not.toContain("never");
  });
});
