/**
 * Proves that a block device serves as rdofile: create, merge in place (where it is kept apart from a file, as it has no
 * holes and no folder for a note), undo, resume. On a loop device, for which one has to be root.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { create } from "../../src/lib/index.ts";
import { expectErrorJson, expectErrorLine, expectJson, run } from "../support/command/harness.ts";
import { finish, skipsLoudly, start } from "../support/command/real-process.ts";
import { noise } from "../support/random.ts";
import { scratchDirectory } from "../support/scratch.ts";

const MIB = 1 << 20;
const IMAGE_BYTES = 24 * MIB;

const at = scratchDirectory();
process.env["COWTOOL_STATE_DIR"] = at("state");
writeFileSync(at("disk"), new Uint8Array(IMAGE_BYTES));
const losetup = spawnSync("losetup", ["--find", "--show", at("disk")]);
const device = losetup.stdout?.toString().trim() ?? "";
const isSkipped = skipsLoudly(losetup.status !== 0, "block devices: a loop device can be set up by root only");
afterAll(() => {
  if (!isSkipped) execFileSync("losetup", ["--detach", device]);
});

function contents(): Buffer {
  return execFileSync("dd", [`if=${device}`, "bs=1M", "iflag=fullblock", "status=none"], {
    maxBuffer: 2 * IMAGE_BYTES,
  });
}

beforeAll(async () => {
  const before = Buffer.from(noise(IMAGE_BYTES, 1));
  writeFileSync(at("before.img"), before);
  const after = Buffer.from(before);
  for (let block = 0; block < IMAGE_BYTES / 1024; block += 2) after.set(noise(64, block), block * 1024);
  writeFileSync(at("after.img"), after);
  await create(at("before.img"), at("vm.cow"), { from: at("after.img") }, {});
});

beforeEach(() => {
  if (!isSkipped) execFileSync("dd", [`if=${at("before.img")}`, `of=${device}`, "bs=1M", "conv=fsync", "status=none"]);
});

describe.skipIf(isSkipped)("a block device as rdofile", () => {
  test("create takes its size and fingerprint from it", async () => {
    const [onDevice, onFile] = [
      await run("create", [device, at("device.cow"), "--json"]),
      await run("create", [at("before.img"), at("file.cow"), "--json"]),
    ];
    const [a, b] = [expectJson(onDevice.stdout, "create"), expectJson(onFile.stdout, "create")];
    expect({ ...a, rdofile: "", cowfile: "" }).toEqual({ ...b, rdofile: "", cowfile: "" });
    expect(readFileSync(at("device.cow")).equals(readFileSync(at("file.cow")))).toBe(true);
    expect((await run("verify-fingerprint", [device, at("vm.cow")])).status).toBe(0);
  });

  test("create --from takes one on either side", async () => {
    await run("create", [device, at("from-file.cow"), "--from", at("after.img")]);
    expect(readFileSync(at("from-file.cow")).equals(readFileSync(at("vm.cow")))).toBe(true);
    const ran = await run("create", [at("after.img"), at("from-device.cow"), "--from", device, "--json"]);
    expect(expectJson(ran.stdout, "create")["blocks_used"]).toBe(IMAGE_BYTES / 2048);
  });

  test("merge writes into it, the undo file takes that back, and nothing is left in /dev", async () => {
    const nodes = readdirSync("/dev").sort();
    const merged = await run("merge", [device, at("vm.cow"), "-y", "--undo", at("undo.cow"), "--json"]);
    expect(expectJson(merged.stdout, "merge")).toMatchObject({ mode: "in-place", blocks_merged: IMAGE_BYTES / 2048 });
    expect(contents().equals(readFileSync(at("after.img")))).toBe(true);
    const back = await run("merge", [device, at("undo.cow"), "-y"]);
    expect(back.status, back.stderr).toBe(0);
    expect(contents().equals(readFileSync(at("before.img")))).toBe(true);
    expect(readdirSync("/dev").sort()).toEqual(nodes);
    expect(readdirSync(at(".")).filter((name) => name.includes("cowtool-merge"))).toEqual([]);
    expect(readdirSync(at("state"))).toEqual([]);
  });

  test("a killed merge is completed by the same command", async () => {
    const argv = ["merge", device, at("vm.cow"), "-y"];
    const { child, ended, says } = start([...argv, "--progress=json"]);
    await says(/"merging"/);
    child.kill("SIGKILL");
    await ended;
    const done = await finish(argv);
    expect(done.status, done.stderr).toBe(0);
    expect(contents().equals(readFileSync(at("after.img")))).toBe(true);
    expect(readdirSync(at(".")).filter((name) => name.includes("cowtool-merge"))).toEqual([]);
  });

  test("a killed merge is known to commands that come from elsewhere, and its undo file leaves no trace of it", async () => {
    mkdirSync(at("elsewhere"));
    copyFileSync(at("vm.cow"), at("elsewhere/sibling.cow"));
    const bytes = readFileSync(at("elsewhere/sibling.cow"));
    bytes[1024] = 0; // without the first blocks it is another one
    bytes.writeBigUInt64LE(BigInt(IMAGE_BYTES / 2048 - 4), 48);
    writeFileSync(at("elsewhere/sibling.cow"), bytes);
    const undo = at("elsewhere/undo.cow");
    const { child, ended, says } = start(["merge", device, at("vm.cow"), "-y", "--undo", undo, "--progress=json"]);
    await says(/"merging"/);
    child.kill("SIGKILL");
    await ended;
    for (const [name, argv] of [
      ["create", [device, at("elsewhere/new.cow")]],
      ["merge", [device, at("elsewhere/sibling.cow"), "-y"]],
      ["merge", [device, at("elsewhere/sibling.cow"), "-o", at("elsewhere/new.img")]],
    ] as const)
      expect(expectErrorJson(await run(name, [...argv, "--json"]), 4)).toMatchObject({ code: "pending-merge" });
    const back = await run("merge", [device, undo, "-y"]);
    expect(back.status, back.stderr).toBe(0);
    expect(contents().equals(readFileSync(at("before.img")))).toBe(true);
    expect([...readdirSync(at(".")), ...readdirSync(at("state"))].filter((name) => name.includes("-merge"))).toEqual(
      [],
    );
    expect((await run("create", [device, at("elsewhere/new.cow")])).status).toBe(0);
  });

  test("merge -o copies it into a file", async () => {
    const ran = await run("merge", [device, at("vm.cow"), "-o", at("new.img")]);
    expect(ran.status, ran.stderr).toBe(0);
    expect(readFileSync(at("new.img")).equals(readFileSync(at("after.img")))).toBe(true);
  });

  test("is no cowfile, and no output", async () => {
    const facts = await run("info", [device, "--json"]);
    expect(JSON.parse(facts.stdout)).toMatchObject({ format: "raw", file: device, allocated_size: null });
    expectErrorLine(await run("create", [at("before.img"), device, "-f"]), 16);
    expectErrorLine(await run("merge", [at("before.img"), at("vm.cow"), "-f", "-o", device]), 16);
    expectErrorJson(await run("merge", [device, at("vm.cow"), "-f", "-o", device, "--json"]), 16);
  });
});

describe.skipIf(isSkipped)("a write-protected block device", () => {
  test.each([
    ["by system calls", {}],
    ["without them", { COWTOOL_NO_FFI: "1" }],
  ] as [string, Record<string, string>][])(
    "is refused before anything is written, and -n says the same: %s",
    async (_, env) => {
      const readOnly = execFileSync("losetup", ["--find", "--show", "--read-only", at("before.img")], {
        encoding: "utf8",
      }).trim();
      try {
        const before = readdirSync(at("."));
        for (const flags of [["-y"], ["-n"], ["-y", "--undo", at("never.cow")]]) {
          const ran = await finish(["merge", readOnly, at("vm.cow"), ...flags], { env });
          expect(ran.status).toBe(8);
          expect(ran.stderr).toContain(`${readOnly}: is a write-protected block device`);
        }
        expect(readdirSync(at("."))).toEqual(before);
      } finally {
        execFileSync("losetup", ["--detach", readOnly]);
      }
    },
  );
});
