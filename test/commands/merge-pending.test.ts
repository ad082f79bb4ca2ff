/**
 * Proves how commands meet a base that holds a part of a cowfile, because a merge was interrupted: the same command
 * completes it, its undo file takes it back, and nobody takes the base for a whole one. The interruption is the
 * library's own, at the first block.
 */
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { describe, expect, test } from "vitest";
import { CowError, MemoryStorage, merge, type PendingFile } from "../../src/lib/index.ts";
import { pictureOf, useImages } from "../support/command/files.ts";
import { expectErrorJson, expectErrorLine, expectJson, run } from "../support/command/harness.ts";
import { noise } from "../support/random.ts";

const at = useImages();
const JOURNAL = "base.img.cowtool-merge";

/** Begins to merge vm.cow into base.img and stops after its first extent. */
async function interruptMerge(undo?: string): Promise<void> {
  const controller = new AbortController();
  const work = merge(at("base.img"), at("vm.cow"), undo === undefined ? {} : { undo }, {
    signal: controller.signal,
    onProgress: ({ phase }) => {
      if (phase === "merging") controller.abort();
    },
  });
  await expect(work).rejects.toBeInstanceOf(CowError);
  expect(existsSync(at(JOURNAL))).toBe(true);
}

function expectSame(file: string, expected: string): void {
  expect(readFileSync(at(file)).equals(readFileSync(at(expected))), `${file} is ${expected}`).toBe(true);
}

describe("an interrupted merge", () => {
  test("whose cowfile is gone is not just missing a file: the ways out are named", async () => {
    await interruptMerge();
    const [base, cow] = [at("base.img"), at("vm.cow")];
    renameSync(cow, `${cow}.away`);
    const ran = await run("merge", [base, cow, "-y"]);
    expect(expectErrorLine(ran, 4)).toContain("holds a part of");
    expect(ran.stderr).toMatch(/hint: .*--give-up/);
  });

  test("is completed by the same command, which says so", async () => {
    await interruptMerge();
    const ran = await run("merge", [at("base.img"), at("vm.cow"), "-y"]);
    expect(ran.stdout).toMatch(/completing an interrupted merge/);
    expectSame("base.img", "changed.img");
    expect(existsSync(at(JOURNAL))).toBe(false);
  });

  test("is asked about, and foretold by -n", async () => {
    await interruptMerge();
    const before = pictureOf(at(""));
    const dry = await run("merge", [at("base.img"), at("vm.cow"), "-n", "--json"]);
    expect(expectJson(dry.stdout, "merge")).toMatchObject({ resumed: true, blocks_merged: 10, dry_run: true });
    expect(pictureOf(at(""))).toEqual(before);
    const { fakeTerminal } = await import("../support/command/fake-terminal.ts");
    const said = (await run("merge", [at("base.img"), at("vm.cow"), "-n"])).stdout;
    expect(said).toMatch(
      /base\.img: holds a part of .*vm\.cow already, as a merge was interrupted; 10 blocks, .* would be/,
    );
    const terminal = fakeTerminal({ isTerminal: true, answers: ["n"] });
    expect((await run("merge", [at("base.img"), at("vm.cow")], terminal)).status).toBe(32);
    expect(terminal.questions.join()).toContain("go on writing 10 blocks");
    expect(pictureOf(at(""))).toEqual(before);
  });

  test.each([
    ["create", () => ["create", at("base.img"), at("new.cow")]],
    ["create over a stack", () => ["create", `${at("base.img")},${at("vm.cow")}`, at("new.cow")]],
    ["create --from it", () => ["create", at("other.img"), at("new.cow"), "--from", at("base.img")]],
    ["the merge of another cowfile", () => ["merge", at("base.img"), at("sibling.cow"), "-y"]],
    ["the merge of another cowfile, dry", () => ["merge", at("base.img"), at("sibling.cow"), "-n"]],
    ["a merge into a new image", () => ["merge", at("base.img"), at("sibling.cow"), "-o", at("new.img")]],
  ])("stands in the way of %s, with both ways out", async (_, line) => {
    await interruptMerge(at("undo.cow"));
    const [name = "", ...argv] = line();
    const before = pictureOf(at(""));
    const ran = await run(name, argv);
    expect(expectErrorLine(ran, 4)).toContain(at("base.img"));
    expect(ran.stderr).toContain(`\`cowtool merge ${at("base.img")} ${at("vm.cow")}\``);
    expect(ran.stderr).toContain(`\`cowtool merge ${at("base.img")} ${at("undo.cow")}\``);
    const error = expectErrorJson(await run(name, [...argv, "--json"]), 4);
    expect(error).toMatchObject({ code: "pending-merge", details: { journal: at(JOURNAL), cowfile: at("vm.cow") } });
    expect(pictureOf(at(""))).toEqual(before);
  });

  test("is taken back by its undo file, after which the base and every cowfile over it are as before", async () => {
    const original = readFileSync(at("base.img"));
    await interruptMerge(at("undo.cow"));
    const ran = await run("merge", [at("base.img"), at("undo.cow"), "-y"]);
    expect(ran.status, ran.stderr).toBe(0);
    expect(readFileSync(at("base.img")).equals(original)).toBe(true);
    expect(existsSync(at(JOURNAL))).toBe(false);
    expect(ran.stdout, "siblings are right again").not.toMatch(/do not use them|no longer match/);
    expect((await run("verify-fingerprint", [at("base.img"), at("sibling.cow")])).status).toBe(0);
    expect((await run("merge", [at("base.img"), at("vm.cow"), "-y"])).status).toBe(0);
    expectSame("base.img", "changed.img");
  });

  test("-n of taking it back changes nothing", async () => {
    await interruptMerge(at("undo.cow"));
    const before = pictureOf(at(""));
    const dry = await run("merge", [at("base.img"), at("undo.cow"), "-n", "--json"]);
    expect(expectJson(dry.stdout, "merge")).toMatchObject({ dry_run: true, blocks_merged: 10, taken_back: true });
    const said = (await run("merge", [at("base.img"), at("undo.cow"), "-n"])).stdout;
    expect(said).toMatch(
      /base\.img: holds a part of a merge that was interrupted; .*undo\.cow would take it back, by 10/,
    );
    expect(pictureOf(at(""))).toEqual(before);
  });

  test("keeps its undo file: the completed merge is taken back by it, too", async () => {
    const original = readFileSync(at("base.img"));
    await interruptMerge(at("undo.cow"));
    await run("merge", [at("base.img"), at("vm.cow"), "-y", "--undo", at("undo.cow")]);
    expectSame("base.img", "changed.img");
    expect((await run("merge", [at("base.img"), at("undo.cow"), "-y"])).status).toBe(0);
    expect(readFileSync(at("base.img")).equals(original)).toBe(true);
  });

  test("cannot be given an undo file afterwards, or another one", async () => {
    await interruptMerge();
    const argv = [at("base.img"), at("vm.cow"), "-y", "--undo", at("late.cow")];
    const ran = await run("merge", argv);
    expectErrorLine(ran, 4);
    expect(ran.stderr).toContain("without --undo");
    expect(existsSync(at("late.cow"))).toBe(false);
  });

  test("names the undo file that it has, when another is asked for", async () => {
    await interruptMerge(at("undo.cow"));
    const ran = await run("merge", [at("base.img"), at("vm.cow"), "-y", "--undo", at("late.cow")]);
    expectErrorLine(ran, 4);
    expect(ran.stderr).toContain(`--undo ${at("undo.cow")}`);
  });

  test("is not forgotten when the base was changed meanwhile", async () => {
    await interruptMerge();
    const image = readFileSync(at("base.img"));
    image.set(noise(1024, 77), 1024);
    writeFileSync(at("base.img"), image);
    const before = pictureOf(at(""));
    expectErrorLine(await run("merge", [at("base.img"), at("vm.cow"), "-y"]), 4);
    expect(pictureOf(at(""))).toEqual(before);
  });
});

describe("a base that was put back from a backup, and used, beside the journal of an interrupted merge", () => {
  /** New data in a block that the cowfile holds, but that no fingerprint is made of. */
  async function restoreAndUse(original: Buffer): Promise<Buffer> {
    const used = Buffer.from(original);
    used.set(noise(1024, 78), 100 * 1024);
    writeFileSync(at("base.img"), used);
    return used;
  }

  test.each([[[]], [["--undo", "undo.cow"]]])(
    "with %j is not overwritten: exit 4; with --force it is",
    async (flags) => {
      const argv = [
        at("base.img"),
        at("vm.cow"),
        "-y",
        ...flags.map((flag) => (flag.startsWith("-") ? flag : at(flag))),
      ];
      const original = readFileSync(at("base.img"));
      await interruptMerge(at("undo.cow"));
      // The first block, of which the fingerprint is made, is as the cowfile has it.
      const half = readFileSync(at("base.img"));
      await restoreAndUse(Buffer.concat([half.subarray(0, 1024), original.subarray(1024)]));
      const before = pictureOf(at(""));
      for (const dry of [[], ["-n"]]) {
        const ran = await run("merge", [...argv, ...dry]);
        expect(expectErrorLine(ran, 4)).toMatch(
          /base\.img: was changed since the interrupted merge, at byte 102400 \(0x19000\)/,
        );
        expect(ran.stderr).toMatch(/hint: --force/);
        const error = expectErrorJson(await run("merge", [...argv, ...dry, "--json"]), 4);
        expect(error).toMatchObject({ code: "pending-merge", details: { offset: 102400 } });
      }
      expect(pictureOf(at(""))).toEqual(before);
      const forced = await run("merge", [...argv, "-f"]);
      expect(forced.status, forced.stderr).toBe(0);
      expectSame("base.img", "changed.img");
      expect(existsSync(at(JOURNAL))).toBe(false);
    },
  );

  test("is one where single sectors are old and new: a torn block is no change", async () => {
    const original = readFileSync(at("base.img"));
    const changed = readFileSync(at("changed.img"));
    await interruptMerge(at("undo.cow"));
    const torn = readFileSync(at("base.img"));
    torn.set(original.subarray(100 * 1024, 100 * 1024 + 512), 100 * 1024);
    torn.set(changed.subarray(100 * 1024 + 512, 101 * 1024), 100 * 1024 + 512);
    writeFileSync(at("base.img"), torn);
    expect((await run("merge", [at("base.img"), at("vm.cow"), "-y"])).status).toBe(0);
    expectSame("base.img", "changed.img");
  });
});

describe("a base that was changed an hour after the interruption", () => {
  const shift = (file: string, seconds: number): void => {
    const time = Date.now() / 1000 + seconds;
    utimesSync(at(file), time, time);
  };

  test("is not merged into any further without --force: its time tells, where no undo file does", async () => {
    const argv = [at("base.img"), at("vm.cow"), "-y"];
    await interruptMerge();
    shift("base.img", 3600);
    const before = pictureOf(at(""));
    const ran = await run("merge", argv);
    expect(expectErrorLine(ran, 4)).toMatch(/base\.img: was changed at 20\d\d-.*Z, but the interrupted merge wrote/);
    expect(ran.stderr).toMatch(/hint: --force/);
    const error = expectErrorJson(await run("merge", [...argv, "-n", "--json"]), 4);
    expect(error).toMatchObject({ code: "pending-merge", details: { journal: at(JOURNAL) } });
    expect(pictureOf(at(""))).toEqual(before);
    expect((await run("merge", [...argv, "-f"])).status).toBe(0);
    expectSame("base.img", "changed.img");
  });

  test("is not given back what it was before, either", async () => {
    const original = readFileSync(at("base.img"));
    await interruptMerge(at("undo.cow"));
    shift("base.img", 3600);
    const before = pictureOf(at(""));
    expectErrorLine(await run("merge", [at("base.img"), at("undo.cow"), "-y"]), 4);
    expect(pictureOf(at(""))).toEqual(before);
    expect((await run("merge", [at("base.img"), at("undo.cow"), "-y", "-f"])).status).toBe(0);
    expect(readFileSync(at("base.img")).equals(original)).toBe(true);
  });

  test("is merged into where the undo file proves that only the time is another", async () => {
    await interruptMerge(at("undo.cow"));
    shift("base.img", 3600);
    expect((await run("merge", [at("base.img"), at("vm.cow"), "-y"])).status).toBe(0);
    expectSame("base.img", "changed.img");
  });

  test("by the same merge, interrupted again, is no other's change: each run leaves its time", async () => {
    await interruptMerge();
    shift("base.img", -7200);
    shift(JOURNAL, -7200);
    await interruptMerge();
    expect(statSync(at("base.img")).mtimeMs).toBeGreaterThan(Date.now() - 60_000);
    const ran = await run("merge", [at("base.img"), at("vm.cow"), "-y"]);
    expect(ran.status, ran.stderr).toBe(0);
    expectSame("base.img", "changed.img");
  });
});

describe("a base that was renamed while it was half merged", () => {
  test("is told from a wrong one by the journal under its old name, with the way out", async () => {
    await interruptMerge();
    renameSync(at("base.img"), at("golden.img"));
    const before = pictureOf(at(""));
    const ran = await run("merge", [at("golden.img"), at("vm.cow"), "-y"]);
    expect(expectErrorLine(ran, 4)).toContain("was made for a base with fingerprint");
    expect(ran.stderr).toContain(`\`mv ${at(JOURNAL)} ${at("golden.img.cowtool-merge")}\``);
    expect(ran.stderr).not.toContain("--force");
    expect(pictureOf(at(""))).toEqual(before);
    renameSync(at(JOURNAL), at("golden.img.cowtool-merge"));
    expect((await run("merge", [at("golden.img"), at("vm.cow"), "-y"])).stdout).toMatch(/completing an interrupted/);
    expectSame("golden.img", "changed.img");
  });

  test("is known where it goes by a hard link, or by a symbolic link from the old place", async () => {
    await interruptMerge();
    linkSync(at("base.img"), at("linked.img"));
    const late = await run("merge", [at("linked.img"), at("vm.cow"), "-y", "--undo", at("late.cow")]);
    expect(expectErrorLine(late, 4)).toContain("holds a part of this cowfile already");
    expectErrorLine(await run("create", [at("linked.img"), at("new.cow")]), 4);
    expect(existsSync(at("late.cow"))).toBe(false);
    expect((await run("merge", [at("linked.img"), at("vm.cow"), "-y"])).stdout).toMatch(/completing an interrupted/);
    expectSame("base.img", "changed.img");
    expect(existsSync(at(JOURNAL))).toBe(false);
  });

  test("is told from a wrong one through a symbolic link, too", async () => {
    await interruptMerge();
    mkdirSync(at("elsewhere"));
    renameSync(at("base.img"), at("elsewhere/b.img"));
    symlinkSync(at("elsewhere/b.img"), at("golden.img"));
    const ran = await run("merge", [at("golden.img"), at("vm.cow"), "-y", "--undo", at("late.cow")]);
    expectErrorLine(ran, 4);
    expect(ran.stderr).toContain(`\`mv ${at(JOURNAL)} ${at("elsewhere/b.img.cowtool-merge")}\``);
    expect(existsSync(at("late.cow"))).toBe(false);
  });

  test("is not seen in another base, nor where the old name is in use", async () => {
    await interruptMerge();
    const hintOf = async (base: string): Promise<string> =>
      (await run("merge", [at(base), at("vm.cow"), "-y"])).stderr.split("\n").slice(1).join();
    copyFileSync(at("base.img"), at("copy.img"));
    expect(await hintOf("copy.img")).toMatch(/--force merges anyway/);
    renameSync(at("base.img"), at("golden.img"));
    expect(await hintOf("random.img")).toMatch(/--force merges anyway/);
    expect(await hintOf("golden.img")).toMatch(/`mv /);
  });

  test("a cowfile that was renamed is not named as if it were there", async () => {
    await interruptMerge();
    renameSync(at("vm.cow"), at("vm2.cow"));
    const ran = await run("create", [at("base.img"), at("new.cow")]);
    expectErrorLine(ran, 4);
    expect(ran.stderr).toContain(`\`cowtool merge ${at("base.img")} COWFILE\`, COWFILE being what ${at("vm.cow")} is`);
  });
});

describe("a journal's name", () => {
  test.each([
    ["merge --undo", "merge", ["base.img", "vm.cow", "-y", "--undo", JOURNAL]],
    ["merge -o", "merge", ["base.img", "vm.cow", "-o", "other.img.cowtool-merge"]],
    ["create", "create", ["base.img", JOURNAL]],
    ["pack", "pack", ["vm.cow", JOURNAL]],
  ])("is no output of %s, and nothing is begun", async (_, name, argv) => {
    const paths = argv.map((word) => (word.startsWith("-") ? word : at(word)));
    const before = pictureOf(at(""));
    expect(expectErrorLine(await run(name, paths), 16)).toContain(".cowtool-merge");
    expect(expectErrorJson(await run(name, [...paths, "--json"]), 16).code).toBe("usage");
    expect(pictureOf(at(""))).toEqual(before);
  });
});

test("a directory that takes no journal is named, with the way out", async () => {
  class Sealed extends MemoryStorage {
    override create(path: string): PendingFile {
      if (path === "dir/base") return super.create(path);
      throw new CowError("permission", "cannot create: permission denied", {
        file: path,
        details: { errno: "EACCES" },
      });
    }
  }
  const storage = new Sealed();
  storage.put("dir/base", readFileSync(at("base.img")));
  storage.put("vm.cow", readFileSync(at("vm.cow")));
  const work = merge("dir/base", "vm.cow", {}, { storage });
  await expect(work).rejects.toMatchObject({
    code: "permission",
    details: { file: "dir/base.cowtool-merge", errno: "EACCES" },
    hints: [expect.stringMatching(/^make dir writable, or merge into a new image with --output/)],
  });
  expect(Buffer.from(storage.content("dir/base")?.toBytes() ?? []).equals(readFileSync(at("base.img")))).toBe(true);
});

describe("a note of a merge that cannot be read", () => {
  test.each([
    ["other JSON", "{}"],
    ["nothing", ""],
  ])("%s: is named, and --force overrides it", async (_, text) => {
    writeFileSync(at(JOURNAL), text);
    const argv = [at("base.img"), at("vm.cow"), "-y"];
    const before = pictureOf(at(""));
    expect(expectErrorLine(await run("merge", argv), 4)).toContain(at(JOURNAL));
    expect(expectErrorLine(await run("create", [at("base.img"), at("new.cow")]), 4)).toContain(at(JOURNAL));
    expect(pictureOf(at(""))).toEqual(before);
    expect((await run("merge", [...argv, "-f"])).status).toBe(0);
    expectSame("base.img", "changed.img");
    expect(existsSync(at(JOURNAL))).toBe(false);
  });

  test("rubbish is no file of cowtool's: it stays, and --force does not write a journal in its place", async () => {
    writeFileSync(at(JOURNAL), "\u0000\u0001");
    const argv = [at("base.img"), at("vm.cow"), "-y"];
    const before = pictureOf(at(""));
    expect(expectErrorLine(await run("merge", argv), 4)).toContain(at(JOURNAL));
    expect(expectErrorLine(await run("merge", [...argv, "-f"]), 8)).toContain(at(JOURNAL));
    expect(pictureOf(at(""))).toEqual(before);
  });
});
