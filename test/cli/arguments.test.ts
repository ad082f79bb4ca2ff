/** Proves that names which cannot be opened as they were written are refused in words, and how they are to be written. */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { requireUtf8 } from "../../src/cli/raw-arguments.ts";
import CreateCommand from "../../src/commands/create.ts";
import DiffCommand from "../../src/commands/diff.ts";
import InfoCommand from "../../src/commands/info.ts";
import ServeCommand from "../../src/commands/serve.ts";
import { nodeStorage } from "../../src/lib/device/node-storage.ts";
import { runCommand } from "../support/command/run-command.ts";
import { scratchDirectory } from "../support/scratch.ts";

const scratch = scratchDirectory();
const LATIN1 = Buffer.from("k\xfcche.cow", "latin1");

describe("a name that is not UTF-8", () => {
  const decoded = LATIN1.toString();
  const line = (...words: readonly (string | Buffer)[]) => {
    const bytes = Buffer.concat(words.flatMap((word) => [Buffer.from(word), Buffer.of(0)]));
    return () => bytes;
  };

  test("as an argument is refused, in its bytes", () => {
    expect(() => requireUtf8(["info", decoded], line("node", "run.js", "info", LATIN1))).toThrow(
      "an argument is not UTF-8: k\\xfcche.cow",
    );
    expect(() => requireUtf8(["info", decoded], () => undefined)).toThrow("an argument is not UTF-8");
  });

  test("is not one that has the replacement character itself, nor any other", () => {
    requireUtf8(["info", decoded], line("node", "run.js", "info", decoded));
    requireUtf8(["info", "k\u00fcche.cow"], line());
  });

  test("of a directory is refused, and not taken for another", () => {
    const folder = scratch("names");
    mkdirSync(folder);
    execFileSync("sh", ["-c", `cd "$0" && mkdir "$(printf 'd\\374')" && ln -s "$(printf 'd\\374')" link`, folder]);
    mkdirSync(join(folder, "d\ufffd"));
    expect(() => nodeStorage.create(join(folder, "link", "new"))).toThrow(/full name is not UTF-8: .*\/d\\xfc$/);
    expect(nodeStorage.list(folder).toSorted()).toEqual(["d\ufffd", "link"]);
  });
});

describe("a comma in a file's name", () => {
  const name = scratch("a,b.img");
  writeFileSync(name, Buffer.alloc(100_000, 7));
  const hint = `a comma separates the parts of a stack: in the name of a file it is written as '${name.replace(",", "\\,")}'`;

  test.each([
    ["create", CreateCommand, [name, scratch("c.cow")]],
    ["create --from", CreateCommand, [name.replace(",", "\\,"), scratch("d.cow"), `--from=${name}`]],
    ["diff", DiffCommand, [name, `raw:${name}`]],
    ["diff of a stack", DiffCommand, [`${name},x.cow`, name.replace(",", "\\,")]],
    ["diff of a stack with a format", DiffCommand, [`raw:${name},y.cow`, name.replace(",", "\\,")]],
    ["info --rdofile", InfoCommand, [name, "--rdofile", name]],
    ["serve --export", ServeCommand, ["--export", `x=${name}`, "--socket", scratch("s")]],
  ] as const)("%s: is told of where it was taken for two", async (_, command, argv) => {
    expect((await runCommand(command, argv)).err()).toContain(`hint: ${hint}`);
  });

  test("is not told of where a stack is meant", async () => {
    const ran = await runCommand(CreateCommand, [scratch("no,such.img"), scratch("e.cow")]);
    expect(ran.err()).not.toContain("comma");
  });
});
