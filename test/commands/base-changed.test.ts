/** Proves what commands say and how they end when a base has changed under its cowfile. */
import { closeSync, openSync, readFileSync, readSync, utimesSync, writeSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { pictureOf, useImages } from "../support/command/files.ts";
import { expectErrorLine, expectJson, run } from "../support/command/harness.ts";
import { startServing } from "../support/nbd/test-server.ts";

const at = useImages();
const KIB = 1024;

/** Changes one byte of a block. */
function poke(path: string, block: number): void {
  const fd = openSync(path, "r+");
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, block * KIB + 77);
  writeSync(fd, Buffer.of((byte[0] ?? 0) ^ 1), 0, 1, block * KIB + 77);
  closeSync(fd);
}

/** The cowfile holds block 0, 10 to 15, 50, 100 and 299: whole chunks of 4 KiB are only those from 12 to 15. */
async function makeCowfile(): Promise<readonly [base: string, cow: string]> {
  const argv = [at("base.img"), at("new.cow"), "--from", at("changed.img")];
  expect((await run("create", argv)).status).toBe(0);
  return [at("base.img"), at("new.cow")];
}

describe("a base that was changed", () => {
  test("shows through: verify-fingerprint ends with 1, check with 4, merge refuses", async () => {
    const images = await makeCowfile();
    poke(images[0], 150);
    const verified = await run("verify-fingerprint", images);
    expect(verified.status).toBe(1);
    expect(verified.stdout).toMatch(
      /^\S+new\.cow: was made for \S+base\.img \(fingerprint 0x\w{8}, 300 blocks\), which was changed since\n {2}changed since \S+Z:\n {4}4096 bytes at byte 151552 \(0x25000\): shows through\n$/,
    );
    const json = expectJson((await run("verify-fingerprint", [...images, "--json"])).stdout, "verify-fingerprint");
    expect(json).toMatchObject({
      match: true,
      identity: { shows_through: true, changed_extents: [{ offset: 148 * KIB, length: 4 * KIB, hidden: "no" }] },
    });
    const checked = await run("check", [images[1], "--rdofile", images[0]]);
    expect(checked.status).toBe(4);
    expect(checked.stdout).toMatch(
      /^error +base-changed +no .* blocks 148 to 151 at byte 151552 \(0x25000\): the cowfile does not hide that$/m,
    );
    const before = pictureOf(at(""));
    expect(expectErrorLine(await run("merge", [...images, "-y"]), 4)).toContain(
      "does not hide that: blocks 148 to 151",
    );
    expect(pictureOf(at(""))).toEqual(before);
    const measured = await run("measure", [images.join(","), "--to", "raw"]);
    expect([measured.status, measured.stderr]).toEqual([0, expect.stringContaining("was changed since")]);
    expect((await run("merge", [...images, "-y", "-f"])).status).toBe(0);
  });

  test("is hidden: both end with 0, and say so if asked", async () => {
    const images = await makeCowfile();
    poke(images[0], 13);
    const verified = await run("verify-fingerprint", images);
    expect([verified.status, verified.stdout.split("\n")[2]]).toEqual([
      0,
      "    4096 bytes at byte 12288 (0x3000): hidden by the cowfile",
    ]);
    const checked = await run("check", [images[1], "--rdofile", images[0], "-v"]);
    expect([checked.status, checked.stdout]).toEqual([0, expect.stringMatching(/^note +base-changed-hidden /m)]);
  });

  test("may show through, if the cowfile holds a part of it: 1, and 4", async () => {
    const images = await makeCowfile();
    poke(images[0], 51);
    const verified = await run("verify-fingerprint", images);
    expect([verified.status, verified.stdout]).toEqual([1, expect.stringContaining("partly allocated in the cowfile")]);
    expect((await run("check", [images[1], "--rdofile", images[0]])).status).toBe(4);
  });

  test("in many places, of which only some are shown without -v", async () => {
    const images = await makeCowfile();
    for (let block = 104; block < 200; block += 8) poke(images[0], block);
    const { stdout } = await run("verify-fingerprint", images);
    expect(stdout.split("\n").slice(-3)).toEqual([
      expect.stringContaining("shows through"),
      "    4 more (-v shows them)",
      "",
    ]);
    expect((await run("verify-fingerprint", [...images, "-v"])).stdout.split("\n")).toHaveLength(15);
  });

  test("is refused by serve; with --force, or where nobody writes, it is warned of", async () => {
    const images = await makeCowfile();
    poke(images[0], 150);
    const changed = expect.stringMatching(/^was changed since .*: blocks 148 to 151 at byte 151552/) as unknown;
    const before = readFileSync(images[1]);
    await expect(startServing(at, images)).rejects.toMatchObject({ code: "wrong-base", message: changed });
    expect(readFileSync(images[1]).equals(before)).toBe(true);
    for (const how of [{ force: true }, { readOnly: true }, { ephemeral: true }]) {
      const server = await startServing(at, images, how);
      expect(server.notices).toEqual([changed]);
      await server.stop();
    }
  });
});

describe("a base that was not", () => {
  test("was only touched, or only read, or is not known", async () => {
    const images = await makeCowfile();
    const line = async (...argv: string[]): Promise<string | undefined> => {
      const ran = await run("verify-fingerprint", [...images, ...argv]);
      expect([ran.status, ran.stderr]).toEqual([0, ""]);
      return ran.stdout.split("\n")[1];
    };
    expect(await line("--full")).toMatch(/^ {2}its content is the same as on \S+Z$/);
    utimesSync(images[0], 1000, 1000);
    expect(await line("--full")).toMatch(/content is the same/);
    expect((await run("create", [...images, "-f", "--identity=none"])).status).toBe(0);
    expect(await line()).toBe("");
    expect(await line("-v")).toBe("  its content was not compared: there is no base record beside the cowfile");
  });

  test("is noted by a server where nothing was", async () => {
    const [base] = await makeCowfile();
    expect((await run("create", [base, at("bare.cow"), "--identity=none"])).status).toBe(0);
    const server = await startServing(at, [base, at("bare.cow")]);
    expect(server.notices).toEqual([]);
    await server.stop();
    expect(JSON.parse(readFileSync(at("bare.cow.cowtool-base"), "utf8"))).toMatchObject({
      cowtool_base: 1,
      unread: [],
    });
  });

  test("is merged, and taken back, without a word of a change", async () => {
    const [base, cow] = await makeCowfile();
    expect((await run("merge", [base, cow, "-y", "--undo", at("undo.cow")])).status).toBe(0);
    // The fingerprint is another one now, as it should be; what the note tells is no accusation.
    const merged = expectJson((await run("verify-fingerprint", [base, cow, "--json"])).stdout, "verify-fingerprint");
    expect(merged).toMatchObject({ match: false, identity: { verdict: "merged", changed_extents: [] } });
    expect((await run("merge", [base, at("undo.cow"), "-y"])).status).toBe(0);
    const ran = await run("verify-fingerprint", [base, cow]);
    expect([ran.status, ran.stdout]).toEqual([0, expect.stringContaining("content is the same")]);
  });
});
