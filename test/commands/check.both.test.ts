/** Proves the verdicts of `check`: exit status 0, 1 or 4, and problems with their place in the file. */
import { readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { gunzipSync, gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { pictureOf, useImages } from "../support/command/files.ts";
import { expectJson, run } from "../support/command/harness.ts";

const at = useImages();

interface Problem {
  readonly id: string;
  readonly severity: string;
  readonly offset: number;
  readonly length: number;
  readonly fixable: boolean;
  readonly message: string;
}

async function problemsOf(file: string, status: number, ...flags: readonly string[]): Promise<readonly Problem[]> {
  const ran = await run("check", [file, "--json", ...flags]);
  expect(ran.status, ran.stdout).toBe(status);
  return expectJson(ran.stdout, "check")["problems"] as readonly Problem[];
}

/** Edits a copy of vm.cow. */
function editedCopy(name: string, edit: (bytes: Buffer) => void): string {
  const bytes = readFileSync(at("vm.cow"));
  edit(bytes);
  writeFileSync(at(name), bytes);
  return at(name);
}

const withoutNotes = (problems: readonly Problem[]): readonly Problem[] =>
  problems.filter(({ severity }) => severity !== "note");

describe("check", () => {
  test("0: a sound file, with its base or without", async () => {
    expect(withoutNotes(await problemsOf(at("vm.cow"), 0))).toEqual([]);
    expect(withoutNotes(await problemsOf(at("vm.cow"), 0, "--rdofile", at("base.img")))).toEqual([]);
    const ran = await run("check", [at("be32.cow")]);
    expect(ran.stdout).toMatch(/be32\.cow: .*clean, no problems/);
  });

  test("says nothing of a mark that a format does not have", async () => {
    const made = await run("create", [at("base.img"), at("made.store"), "--format", "dm-snapshot"]);
    expect(made.status, made.stderr).toBe(0);
    expect((await run("check", [at("made.store")])).stdout).toBe(`${at("made.store")}: no problems\n`);
    const json = expectJson((await run("check", [at("made.store"), "--json"])).stdout, "check");
    expect(json["state"]).toBeNull();
  });

  test("0: notes are no problems", async () => {
    const file = editedCopy("noted.cow", (bytes) => {
      bytes[1000] = 1;
      bytes[7] = 0x40;
    });
    const ids = (await problemsOf(file, 0)).map(({ id }) => id);
    expect(ids).toContain("head-tail");
    expect(ids).toContain("unknown-flags");
    expect((await run("check", [file])).stdout).toMatch(/no problems, \d+ notes?\b/);
    expect((await run("check", [file, "-v"])).stdout).toMatch(/^note +head-tail +no /m);
  });

  test("1: what repair puts right, with its place in the file", async () => {
    const problems = withoutNotes(await problemsOf(at("dirty.cow"), 1));
    expect(problems).toMatchObject([
      { id: "dirty", severity: "error", offset: 6, length: 2, fixable: true },
      { id: "unmarked-data", severity: "error", offset: 4096 + 11 * 1024, length: 3 * 1024, fixable: true },
    ]);
    expect(problems[1]?.message).toContain("blocks 11 to 13 at byte 15360 (0x3c00)");
  });

  test("1: a wrong count, and marks behind the end", async () => {
    const file = editedCopy("count.cow", (bytes) => {
      bytes.writeBigUInt64LE(99n, 48);
      bytes[1024 + 40] = 0x01;
    });
    const problems = withoutNotes(await problemsOf(file, 1));
    expect(problems.map(({ id }) => id)).toEqual(["used-count", "bits-beyond-end"]);
    expect(problems[0]).toMatchObject({ offset: 48, length: 8 });
    expect(problems[1]).toMatchObject({ offset: 4096 + 320 * 1024, length: 1024 });
  });

  test("1: a block that is cut short", async () => {
    const file = editedCopy("short.cow", () => {});
    truncateSync(file, 4096 + 299 * 1024 + 512);
    const problems = withoutNotes(await problemsOf(file, 1));
    expect(problems).toMatchObject([{ id: "short-block", offset: 4096 + 299 * 1024 + 512, length: 512 }]);
  });

  test("4: what it cannot put right", async () => {
    const lost = withoutNotes(await problemsOf(at("lost.cow"), 4));
    expect(lost).toMatchObject([{ id: "data-lost", offset: 4096 + 299 * 1024, length: 1024, fixable: false }]);
    expect(await problemsOf(at("hostile.cow"), 4)).toMatchObject([{ id: "block-count", offset: 32, length: 8 }]);
    expect(withoutNotes(await problemsOf(at("vm.cow"), 4, "--rdofile", at("random.img")))).toMatchObject([
      { id: "base-fingerprint", offset: 40, length: 8, fixable: false },
    ]);
    const ran = await run("check", [at("lost.cow")]);
    expect(ran.stdout).toMatch(/lost\.cow: .*1 problem that .*cannot fix/);
  });

  test("4: a file that ends inside its bitmap", async () => {
    const file = editedCopy("stump.cow", () => {});
    truncateSync(file, 1500);
    expect(await problemsOf(file, 4)).toMatchObject([{ id: "bitmap-truncated", offset: 1500, length: 548 }]);
  });

  test("4: another size of base is told before its fingerprint", async () => {
    truncateSync(at("random.img"), 200 * 1024);
    expect(withoutNotes(await problemsOf(at("vm.cow"), 4, "--rdofile", at("random.img")))).toMatchObject([
      { id: "base-size", offset: 32 },
    ]);
  });

  test("looks through a stack at the base of a layer", async () => {
    expect(withoutNotes(await problemsOf(at("top.cow"), 0, "--rdofile", `${at("base.img")},${at("vm.cow")}`))).toEqual(
      [],
    );
    expect((await problemsOf(at("top.cow"), 4, "--rdofile", at("base.img")))[0]?.id).toBe("base-fingerprint");
  });

  test.each(["plain.pack", "gzip.pack"])("0 for the sound %s, 4 for its first half", async (name) => {
    expect(withoutNotes(await problemsOf(at(name), 0, "--rdofile", at("base.img")))).toEqual([]);
    truncateSync(at(name), Math.floor(statSync(at(name)).size / 2));
    const before = pictureOf(at(""));
    expect((await run("check", [at(name), "--json"])).status).toBe(4);
    expect(pictureOf(at(""))).toEqual(before);
  });

  test.each(["plain.pack", "gzip.pack"])(
    "4: a pack of a file that was dirty (%s), as nothing can bring back",
    async (name) => {
      const isGzip = name.startsWith("gzip");
      const bytes = isGzip ? gunzipSync(readFileSync(at(name))) : readFileSync(at(name));
      bytes[6] = 3;
      writeFileSync(at("dirty.pack"), isGzip ? gzipSync(bytes) : bytes);
      const problems = withoutNotes(await problemsOf(at("dirty.pack"), 4));
      expect(problems).toMatchObject([{ id: "dirty", severity: "error", offset: 6, length: 2, fixable: false }]);
      const ran = await run("check", [at("dirty.pack")]);
      expect(ran.stdout).toMatch(/dirty\.pack: marked dirty, 1 problem that repair cannot fix/);
    },
  );

  test("shows the first problems of a kind, and all of them with -v", async () => {
    const file = editedCopy("many.cow", (bytes) => bytes.fill(0, 1024, 1024 + 38));
    const few = (await run("check", [file])).stdout;
    const all = (await run("check", [file, "-v"])).stdout;
    expect(few).toMatch(/^error +unmarked-data +yes +block /m);
    expect(all.split("\n").length).toBeGreaterThanOrEqual(few.split("\n").length);
    const { length } = withoutNotes(await problemsOf(file, 1));
    expect(all.match(/^(?:error|warning) /gm)).toHaveLength(length);
  });
});
