/**
 * Proves what every command does with files that are missing, none of ours, locked, its own output, or badly named: the
 * right exit status, one clear line that names the file, and not a byte changed. Driven by test/support/command/rows.ts.
 */
import { copyFileSync, linkSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { escapeControls } from "../../src/cli/render/escape.ts";
import { type Picture, pictureOf, useImages } from "../support/command/files.ts";
import {
  eachOf,
  expectErrorJson,
  expectErrorLine,
  expectJson,
  expectNotices,
  expectPlainLines,
  run,
} from "../support/command/harness.ts";
import type { Rubbish } from "../support/command/row.ts";
import { holdLocks, type LockHolder } from "../support/lock-holder.ts";
import { sampleOf } from "../support/sample.ts";

const at = useImages();

const RUBBISH: readonly Rubbish[] = ["random.img", "zero.img", "empty.img"];

/** Everything that was there is as it was, and nothing is new. */
function expectUntouched(before: Picture): void {
  expect(pictureOf(at(""))).toEqual(before);
}

/** Runs a line that must fail, in both forms, and expects a message about `file` and an untouched folder. */
async function expectRefusal(name: string, argv: readonly string[], status: number, file: string): Promise<string> {
  const before = pictureOf(at(""));
  const line = expectErrorLine(await run(name, argv), status);
  expect(line).toContain(escapeControls(file));
  expectUntouched(before);
  const error = expectErrorJson(await run(name, [...argv, "--json"]), status);
  expect(`${error.details["file"]} ${error.message}`).toContain(file);
  expectUntouched(before);
  return line;
}

describe.each(eachOf(({ inputs }) => inputs))("%s, %s", (name, _, input) => {
  test("says which file is missing", async () => {
    const line = await expectRefusal(name, input.argv(at, at("none.img")), 8, at("none.img"));
    expect(line).toMatch(/no such file or directory$/);
    await expectRefusal(name, input.argv(at, at("no/such/folder.img")), 8, at("no/such/folder.img"));
  });

  test("says that a part of the path is no folder", async () => {
    await expectRefusal(name, input.argv(at, at("base.img/x")), 8, at("base.img/x"));
  });

  test("refuses a folder and a character device", async () => {
    mkdirSync(at("folder"));
    expect(await expectRefusal(name, input.argv(at, at("folder")), 16, at("folder"))).toMatch(/is a directory/);
    expect(await expectRefusal(name, input.argv(at, "/dev/null"), 16, "/dev/null")).toMatch(/neither a regular file/);
  });

  test("refuses an empty name as such", async () => {
    const ran = await run(name, input.argv(at, ""));
    expectErrorLine(ran, ran.status === 8 ? 8 : 16);
  });

  test.each(RUBBISH)("takes %s for what it is, and leaves it so", async (rubbish) => {
    const argv = input.argv(at, at(rubbish));
    const takes = input.takes?.[rubbish];
    if (takes === undefined) {
      await expectRefusal(name, argv, 4, at(rubbish));
      return;
    }
    const before = pictureOf(at(""));
    const ran = await run(name, [...argv, "--json"]);
    expect(ran.status).toBe(takes);
    expectJson(ran.stdout, name);
    expect(pictureOf(at(""))).toMatchObject(before);
  });

  test("follows a symbolic link, and names the link where it dangles", async () => {
    symlinkSync(at(input.good), at("link"));
    const ran = await run(name, [...input.argv(at, at("link")), "--json"]);
    expectJson(ran.stdout, name);
    symlinkSync(at("nowhere"), at("dangling"));
    await expectRefusal(name, input.argv(at, at("dangling")), 8, at("dangling"));
  });

  test.runIf(input.isStack && input.good.endsWith(".img"))("takes a stack file, if it is named as one", async () => {
    at(input.good);
    writeFileSync(at("new.stack"), JSON.stringify({ cowtool_stack: 1, base: { file: input.good }, layers: [] }));
    expect(await expectRefusal(name, input.argv(at, at("new.stack")), 4, at("new.stack"))).toContain("is a stack file");
    const ran = await run(name, [...input.argv(at, `stack:${at("new.stack")}`), "--json"]);
    expect(ran.status, ran.stderr).toBe(0);
    expectJson(ran.stdout, name);
  });

  const NAMES = [
    "with space.img",
    "a,b.img",
    "two\nlines\u001b[31m.img",
    "--\u202e\u0007.img",
    "ünï 牛🐄.img",
    "'\"$(x)`.img",
  ];

  test.each(sampleOf(NAMES, 2, name.length + input.title.length))("copes with the name %j", async (odd) => {
    const text = (path: string): string => (input.isStack ? path.replaceAll(",", "\\,") : path);
    const missing = text(at(odd));
    const line = expectErrorLine(await run(name, input.argv(at, missing)), 8);
    expect(line).toContain(escapeControls(at(odd)));
    expect(expectErrorJson(await run(name, [...input.argv(at, missing), "--json"]), 8).details["file"]).toBe(at(odd));
    copyFileSync(at(input.good), at(odd));
    const human = await run(name, input.argv(at, text(at(odd))));
    expect(human.status, human.stderr).toBe(0);
    expectPlainLines(human.stdout);
    expectNotices(human.stderr);
  });
});

describe.each([
  ["with system calls", false],
  ["without system calls", true],
])("a file that a process %s is writing", (_, portable) => {
  let holder: LockHolder;
  beforeAll(async () => {
    holder = await holdLocks(portable);
  });
  afterAll(() => holder.end());

  test.each(eachOf(({ inputs }) => inputs))("%s, %s: is refused, naming pid and command", async (name, __, input) => {
    const locked = at(input.good);
    await holder.lock(locked);
    const argv = input.argv(at, locked);
    const names = Object.keys(pictureOf(at("")));
    const line = expectErrorLine(await run(name, argv), 8);
    expect(line).toContain(locked);
    expect(line).toContain(`locked by pid ${holder.pid} (${holder.command.slice(0, 60)}`);
    const error = expectErrorJson(await run(name, [...argv, "--json"]), 8);
    expect(error).toMatchObject({ code: "locked", details: { file: locked, holder_pid: holder.pid } });
    await holder.unlock();
    expect(Object.keys(pictureOf(at(""))).filter((file) => !names.includes(file))).toEqual([]);
    expectJson((await run(name, [...argv, "--json"])).stdout, name);
  });
});

describe.each(eachOf(({ outputs }) => outputs))("%s, %s", (name, _, output) => {
  test("does not replace a file unasked", async () => {
    expect(await expectRefusal(name, output.argv(at, at("other.img")), 8, at("other.img"))).toMatch(/already exists/);
    symlinkSync("other.img", at("link"));
    await expectRefusal(name, output.argv(at, at("link")), 8, at("link"));
  });

  test("names the file where its folder is missing or is none", async () => {
    await expectRefusal(name, output.argv(at, at("no/such/folder")), 8, at("no/such/folder"));
    await expectRefusal(name, output.argv(at, at("other.img/x")), 8, at("other.img/x"));
  });

  test("refuses a folder, and an empty name", async () => {
    mkdirSync(at("folder"));
    const argv = output.argv(at, at("folder"));
    const before = pictureOf(at(""));
    const ran = await run(name, argv);
    expect(expectErrorLine(ran, ran.status === 8 ? 8 : 16)).toContain(at("folder"));
    const empty = await run(name, output.argv(at, ""));
    expectErrorLine(empty, empty.status === 8 ? 8 : 16);
    expect(pictureOf(at(""))).toEqual(before);
  });

  test.runIf(name !== "pack" && name !== "unpack")("does not take - for a name", async () => {
    expect(await expectRefusal(name, output.argv(at, "-"), 16, "-")).toContain("only pack and unpack write to stdout");
  });

  test("has the mode that the umask leaves, and no left-overs beside it", async () => {
    const argv = output.argv(at, at("new"));
    const names = Object.keys(pictureOf(at("")));
    expectJson((await run(name, [...argv, "--json"])).stdout, name);
    const after = pictureOf(at(""));
    const made = ["new", ...(output.hasNote ? ["new.cowtool-base"] : []), ...(output.makes ?? [])];
    expect(Object.keys(after).sort()).toEqual([...names, ...made].sort());
    expect((after["new"]?.mode ?? 0) & 0o777).toBe(0o666 & ~process.umask());
  });
});

describe.each(eachOf(({ collisions }) => collisions))("%s, %s are one file", (name, _, { argv, input }) => {
  test.each([
    ["by the same name", () => at(input)],
    [
      "by a hard link",
      () => {
        linkSync(at(input), at("hard"));
        return at("hard");
      },
    ],
    [
      "by a symbolic link",
      () => {
        symlinkSync(input, at("soft"));
        return at("soft");
      },
    ],
    [
      "by a roundabout path",
      () => {
        mkdirSync(at("sub"));
        return `${at("sub")}/../${input}`;
      },
    ],
  ])("%s: refused, even with --force", async (__, makeName) => {
    at(input);
    const output = makeName();
    const line = await expectRefusal(name, argv(at, output), 16, output);
    expect(line).toMatch(/an output must not be/);
  });
});
