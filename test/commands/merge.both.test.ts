/**
 * Proves what `merge` says and refuses: what becomes of the cowfile and its siblings, what was merged already, who is
 * asked. Interrupted merges are proved in merge-pending.test.ts, kills in kill.test.ts.
 */
import { appendFileSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { pictureOf, useImages } from "../support/command/files.ts";
import { expectErrorJson, expectErrorLine, expectJson, run } from "../support/command/harness.ts";
import { noise } from "../support/random.ts";

const at = useImages();

function expectSame(file: string, expected: string): void {
  expect(readFileSync(at(file)).equals(readFileSync(at(expected))), `${file} is ${expected}`).toBe(true);
}

async function resultOf(argv: readonly string[]): Promise<Record<string, unknown>> {
  const ran = await run("merge", [...argv, "--json"]);
  expect(ran.status, ran.stdout).toBe(0);
  return expectJson(ran.stdout, "merge");
}

describe("merge in place", () => {
  test("gives the image that the cowfile showed, zeros included", async () => {
    const cow = readFileSync(at("vm.cow"));
    const result = await resultOf([at("base.img"), at("vm.cow"), "-y"]);
    expect(result).toMatchObject({
      mode: "in-place",
      output: at("base.img"),
      blocks_merged: 10,
      bytes_merged: 10240,
      dry_run: false,
      resumed: false,
      already_merged: false,
      undo: null,
      fingerprint_changed: true,
    });
    expectSame("base.img", "changed.img");
    expect(readFileSync(at("vm.cow")).equals(cow)).toBe(true);
    expect(Object.keys(pictureOf(at(""))).sort()).toEqual(["base.img", "changed.img", "vm.cow"]);
  });

  test("says that siblings are refused from now on, and they are", async () => {
    const ran = await run("merge", [at("base.img"), at("vm.cow"), "-y"]);
    expect(ran.stdout).toMatch(/base\.img: 10 blocks, 10240 \(10 KiB\),? of .*vm\.cow merged/);
    expect(ran.stdout).toMatch(/redundant/);
    expect(ran.stdout).toMatch(/no longer match it, and are refused/);
    const error = expectErrorJson(await run("merge", [at("base.img"), at("sibling.cow"), "-y", "--json"]), 4);
    expect(error.code).toBe("wrong-base");
    expect(error.details).toHaveProperty("fingerprint_expected");
  });

  test("warns where siblings still match, though they no longer show what they did", async () => {
    const ran = await run("merge", [at("base.img"), at("sibling.cow"), "-y"]);
    expect(ran.stdout).toMatch(/2 blocks, 2048 \(2 KiB\)/);
    expect(ran.stdout).toMatch(/still match its fingerprint.*do not use them/);
    expect((await run("verify-fingerprint", [at("base.img"), at("vm.cow")])).status).toBe(0);
  });

  test("a second time finds every block there, and writes nothing", async () => {
    await resultOf([at("base.img"), at("vm.cow"), "-y"]);
    const before = pictureOf(at(""));
    const again = await resultOf([at("base.img"), at("vm.cow"), "-y"]);
    expect(again).toMatchObject({ already_merged: true, blocks_merged: 0, resumed: false });
    expect((await run("merge", [at("base.img"), at("vm.cow")])).stdout).toMatch(/holds every block of .* already/);
    expect(pictureOf(at(""))).toEqual(before);
  });

  test("a second time names no undo file that was never made, and the one that was", async () => {
    const argv = [at("base.img"), at("vm.cow"), "-y", "--undo", at("undo.cow")];
    const original = readFileSync(at("base.img"));
    await resultOf([at("base.img"), at("vm.cow"), "-y"]);
    const before = pictureOf(at(""));
    expect(await resultOf(argv)).toMatchObject({ already_merged: true, undo: null });
    expect(pictureOf(at(""))).toEqual(before);
    writeFileSync(at("base.img"), original);
    expect(await resultOf(argv)).toMatchObject({ already_merged: false, undo: at("undo.cow") });
    expect(await resultOf(argv)).toMatchObject({ already_merged: true, undo: at("undo.cow") });
  });

  test("an empty cowfile is merged into its own base only, though every base holds all of its blocks", async () => {
    await run("create", [at("base.img"), at("none.cow")]);
    expect(await resultOf([at("base.img"), at("none.cow"), "-y"])).toMatchObject({
      blocks_merged: 0,
      already_merged: false,
    });
    const argv = [at("random.img"), at("none.cow"), "-y"];
    const before = pictureOf(at(""));
    const error = expectErrorJson(await run("merge", [...argv, "--json"]), 4);
    expect(error.code).toBe("wrong-base");
    expect(pictureOf(at(""))).toEqual(before);
    expect((await run("merge", [...argv, "-f"])).status).toBe(0);
  });

  test("a second time writes the same bytes where the fingerprint cannot tell", async () => {
    await resultOf([at("base.img"), at("sibling.cow"), "-y"]);
    const once = readFileSync(at("base.img"));
    await resultOf([at("base.img"), at("sibling.cow"), "-y"]);
    expect(readFileSync(at("base.img")).equals(once)).toBe(true);
  });

  test("--undo saves what is overwritten; merging that takes the merge back, and says nothing frightening", async () => {
    const original = readFileSync(at("base.img"));
    const ran = await run("merge", [at("base.img"), at("vm.cow"), "-y", "--undo", at("undo.cow")]);
    expect(ran.stdout).toMatch(/undo\.cow: undoes the merge: `cowtool merge /);
    expect((await run("check", [at("undo.cow"), "--rdofile", at("base.img")])).status).toBe(0);
    await resultOf([at("base.img"), at("undo.cow"), "-y"]);
    expect(readFileSync(at("base.img")).equals(original)).toBe(true);
    await resultOf([at("base.img"), at("vm.cow"), "-y"]);
    expectSame("base.img", "changed.img");
  });

  test("--undo never replaces a file", async () => {
    at("base.img");
    const argv = [at("base.img"), at("vm.cow"), "-y", "-f", "--undo", at("other.img")];
    const before = pictureOf(at(""));
    expectErrorLine(await run("merge", argv), 8);
    expect(pictureOf(at(""))).toEqual(before);
  });

  test("--undo and -o exclude each other", async () => {
    const argv = [at("base.img"), at("vm.cow"), "--undo", at("undo.cow"), "-o", at("new.img")];
    expect(expectErrorLine(await run("merge", argv), 16)).toContain("--undo");
  });
});

describe("merge -o", () => {
  test("leaves both inputs alone", async () => {
    const argv = [at("base.img"), at("vm.cow"), "-o", at("new.img")];
    const before = pictureOf(at(""));
    const ran = await run("merge", argv);
    expect(ran.stdout).toMatch(/new\.img: is .*base\.img with 10 blocks/);
    const { "new.img": made, ...rest } = pictureOf(at(""));
    expect(rest).toEqual(before);
    expect(made).toBeDefined();
    expectSame("new.img", "changed.img");
  });

  test("keeps what the base has behind the last whole block", async () => {
    writeFileSync(at("odd.img"), noise(10 * 1024 + 77, 1));
    await run("create", [at("odd.img"), at("odd.cow"), "-q"]);
    await resultOf([at("odd.img"), at("odd.cow"), "-o", at("new.img")]);
    expectSame("new.img", "odd.img");
  });

  test("replaces an image only with -f", async () => {
    const argv = [at("base.img"), at("vm.cow"), "-o", at("other.img")];
    const refused = await run("merge", argv);
    expectErrorLine(refused, 8);
    expect(refused.stderr).toMatch(/hint: .*--force/);
    await resultOf([...argv, "-f"]);
    expectSame("other.img", "changed.img");
  });
});

describe("merge asks", () => {
  test("where there is a terminal, and takes no for an answer", async () => {
    const argv = [at("base.img"), at("vm.cow")];
    const before = pictureOf(at(""));
    const { fakeTerminal } = await import("../support/command/fake-terminal.ts");
    for (const answers of [["n"], [""], []]) {
      const terminal = fakeTerminal({ isTerminal: true, answers });
      const ran = await run("merge", argv, terminal);
      expect([ran.status, ran.stdout]).toEqual([32, ""]);
      expect(terminal.questions.join()).toMatch(
        /write 10 blocks, 10240 \(10 KiB\), of .*base\.img\? .*--undo.* other cowfiles .*go on\? \[y\/N\] $/,
      );
      expect(ran.stderr).toContain("nothing has been changed");
    }
    expect(pictureOf(at(""))).toEqual(before);
    expect((await run("merge", argv, { isTerminal: true, answers: ["y"] })).status).toBe(0);
    expectSame("base.img", "changed.img");
  });

  test("nobody where there is none: 16 and a hint, whatever --force says", async () => {
    const argv = [at("base.img"), at("vm.cow")];
    const before = pictureOf(at(""));
    const ran = await run("merge", [...argv, "-f"]);
    expect(expectErrorLine(ran, 16)).toContain("confirmation needed");
    expect(ran.stderr).toMatch(/hint: --yes/);
    const terminal = { isTerminal: true, answers: ["y"] };
    expect(expectErrorJson(await run("merge", [...argv, "--json"], terminal), 16).code).toBe("needs-confirmation");
    expect(pictureOf(at(""))).toEqual(before);
  });

  test("nothing about a new image, for that is no danger", async () => {
    expect((await run("merge", [at("base.img"), at("vm.cow"), "-o", at("new.img")])).status).toBe(0);
  });

  test("in good English about one block", async () => {
    const image = readFileSync(at("base.img"));
    image[5000] = 255 - (image[5000] ?? 0);
    writeFileSync(at("one.img"), image);
    await run("create", [at("base.img"), at("one.cow"), "--from", at("one.img")]);
    expect((await run("merge", [at("base.img"), at("one.cow")])).stderr).toMatch(
      /write (?:1|one) block, 1024 \(1 KiB\), of/,
    );
  });
});

describe("merge refuses, and changes nothing:", () => {
  async function expectRefused(argv: readonly string[], code: string, hint?: RegExp): Promise<void> {
    const before = pictureOf(at(""));
    const error = expectErrorJson(await run("merge", [...argv, "-y", "--json"]), 4);
    expect(error.code).toBe(code);
    if (hint) expect(error.hints.join("\n")).toMatch(hint);
    expect(pictureOf(at(""))).toEqual(before);
  }

  test.each([["in place"], ["-o"]])("%s: a dirty, a damaged, a foreign cowfile", async (mode) => {
    const flags = mode === "-o" ? ["-o", at("new.img")] : [];
    await expectRefused([at("base.img"), at("dirty.cow"), ...flags], "dirty", /cowtool repair .*dirty\.cow/);
    await expectRefused([at("base.img"), at("lost.cow"), ...flags], "damaged", /cowtool check .*lost\.cow/);
    await expectRefused([at("base.img"), at("hostile.cow"), ...flags], "damaged");
    await expectRefused([at("random.img"), at("vm.cow"), ...flags], "wrong-base");
    await expectRefused([at("base.img"), at("top.cow"), ...flags], "wrong-base");
  });

  test("a packed cowfile in place, with a hint; into a new image it is merged as it is", async () => {
    for (const pack of ["plain.pack", "gzip.pack"]) {
      await expectRefused([at("base.img"), at(pack)], "packed", /unpack/);
      await resultOf([at("base.img"), at(pack), "-f", "-o", at("new.img")]);
      expectSame("new.img", "changed.img");
    }
  });

  test("arguments in the wrong order, with a hint", async () => {
    await expectRefused([at("vm.cow"), at("base.img")], "unsuitable", /RDOFILE COWFILE/);
  });

  test("a shorter base, even with -f; a longer one without", async () => {
    appendFileSync(at("base.img"), noise(1024, 9));
    await expectRefused([at("base.img"), at("vm.cow")], "wrong-base");
    truncateSync(at("base.img"), 299 * 1024);
    await expectRefused([at("base.img"), at("vm.cow"), "-f"], "wrong-base");
    expect(statSync(at("base.img")).size).toBe(299 * 1024);
  });
});

describe("merge of two cowfiles", () => {
  test("says which flags it needs, and which do not go with it", async () => {
    const pair = [at("base.img"), at("vm.cow"), at("sibling.cow")];
    const before = pictureOf(at(""));
    expect(expectErrorLine(await run("merge", pair), 16)).toContain("--output FILE is needed");
    for (const flags of [["--undo", at("undo.cow")], ["--give-up"]])
      expect(expectErrorLine(await run("merge", [...pair, "-o", at("new.cow"), ...flags]), 16)).toContain(
        "with one cowfile",
      );
    expect(pictureOf(at(""))).toEqual(before);
  });
});

describe("merge -f", () => {
  test("merges into another base of that size", async () => {
    const other = readFileSync(at("random.img"));
    const result = await resultOf([at("random.img"), at("vm.cow"), "-f", "-y"]);
    expect(result).toMatchObject({ blocks_merged: 10 });
    const after = readFileSync(at("random.img"));
    expect(after.subarray(0, 1024).equals(readFileSync(at("changed.img")).subarray(0, 1024))).toBe(true);
    expect(after.subarray(1024, 10240).equals(other.subarray(1024, 10240))).toBe(true);
  });

  test("merges what is left of a damaged cowfile, and warns of the rest", async () => {
    const ran = await run("merge", [at("base.img"), at("lost.cow"), "-f", "-y", "--json"]);
    expect(expectJson(ran.stdout, "merge")).toMatchObject({ blocks_merged: 9 });
    expect(ran.stderr).toMatch(/^cowtool: warning: .*lost\.cow: .*block 299/m);
  });
});
