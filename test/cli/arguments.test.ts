/**
 * Proves that names which cannot be opened as they were written are refused in words, and that every command reads a comma
 * in a stack by one rule.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "@oclif/core";
import { beforeAll, describe, expect, test } from "vitest";
import { requireUtf8 } from "../../src/cli/raw-arguments.ts";
import { type ServeFlags, serveRequest } from "../../src/cli/serve-request.ts";
import CheckCommand from "../../src/commands/check.ts";
import ConvertCommand from "../../src/commands/convert.ts";
import CreateCommand from "../../src/commands/create.ts";
import DiffCommand from "../../src/commands/diff.ts";
import InfoCommand from "../../src/commands/info.ts";
import InvertCommand from "../../src/commands/invert.ts";
import MeasureCommand from "../../src/commands/measure.ts";
import MergeCommand from "../../src/commands/merge.ts";
import RepairCommand from "../../src/commands/repair.ts";
import ServeCommand from "../../src/commands/serve.ts";
import SquashCommand from "../../src/commands/squash.ts";
import VerifyCommand from "../../src/commands/verify-fingerprint.ts";
import { nodeStorage } from "../../src/lib/device/node-storage.ts";
import { create } from "../../src/lib/operations/create.ts";
import { StackSpec } from "../../src/lib/stack/spec.ts";
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
  const [base, cow] = [scratch("a,b.img"), scratch("c,d.cow")];
  const [stack, escapedBase] = [`${base},${cow}`, base.replace(",", "\\,")];
  writeFileSync(base, Buffer.alloc(96 * 1024, 7));
  writeFileSync(scratch("changed.img"), Buffer.alloc(96 * 1024, 8));
  beforeAll(() => create(base, cow, { from: scratch("changed.img") }, {}));

  const EVERYWHERE: readonly (readonly [typeof Command, (name: string, out: string) => readonly string[], number])[] = [
    [CheckCommand, (name) => [cow, `--rdofile=${name}`], 0],
    [ConvertCommand, (name, out) => [name, out, "--to=qcow2"], 0],
    [ConvertCommand, (name, out) => [scratch("changed.img"), out, "--to=cowfile", `--base=${name}`], 0],
    [CreateCommand, (name, out) => [name, out], 0],
    [CreateCommand, (name, out) => [scratch("changed.img"), out, `--from=${name}`], 0],
    [CreateCommand, (name, out) => [name, out, "--format=dm-snapshot"], 0],
    [DiffCommand, (name) => [name, scratch("changed.img")], 1],
    [DiffCommand, (name) => [scratch("changed.img"), name], 1],
    [DiffCommand, (name) => [cow, cow, `--rdofile=${name}`], 0],
    [DiffCommand, (name, out) => [name, scratch("changed.img"), "--map=svg", `-o${out}`], 1],
    [InfoCommand, (name) => [cow, `--rdofile=${name}`], 0],
    [InvertCommand, (name, out) => [name, cow, `-o${out}`, `--layer=${out}.cow`], 0],
    [MeasureCommand, (name) => [name, "--to=qcow2"], 0],
    [MergeCommand, (name, out) => [name, cow, `-o${out}`], 0],
    [MergeCommand, (name) => [name, cow, "--dry-run"], 0],
    [RepairCommand, (name) => [cow, "-f", `--rdofile=${name}`], 0],
    [VerifyCommand, (name) => [name, cow], 0],
  ];
  let count = 0;

  test.each(EVERYWHERE)("is part of the name of one file where that exists: %o", async (command, argv, status) => {
    for (const name of [base, escapedBase, `raw:${base}`]) {
      const line = argv(name, scratch(`out${count++}`));
      const ran = await runCommand(command, line);
      expect(ran.exitCode(), `${line.join(" ")}: ${ran.err()}`).toBe(status);
    }
  });

  test("is that for serve and squash, too", async () => {
    const flags = { export: [`x=${base}`, `y=raw:${base}`] } as unknown as ServeFlags;
    const stacks = serveRequest([base, cow], flags).exports.map((each) => StackSpec.parse(nodeStorage, each.stack));
    expect(stacks.map(({ files }) => files)).toEqual([[base, cow], [base], [base]]);
    expect(StackSpec.parse(nodeStorage, stacks[0]?.text ?? "").files).toEqual([base, cow]);
    const ran = await runCommand(SquashCommand, [stacks[0]?.text ?? "", scratch("squashed.cow"), "--json"]);
    expect(JSON.parse(ran.out())).toMatchObject({ over: escapedBase });
  });

  const hint = `a comma separates the parts of a stack: in the name of a file it is written as '${escapedBase}'`;

  test.each([
    ["create", CreateCommand, [stack, scratch("e.cow")]],
    ["create --from", CreateCommand, [escapedBase, scratch("e.cow"), `--from=${stack}`]],
    ["merge", MergeCommand, [stack, scratch("x.cow"), `-o${scratch("e.img")}`]],
    ["diff with a format", DiffCommand, [`raw:${base},x.cow`, base]],
    ["info --rdofile", InfoCommand, [cow, "--rdofile", stack]],
    ["serve --export", ServeCommand, ["--export", `x=${stack}`, "--socket", scratch("s")]],
  ] as const)("separates parts otherwise, and %s tells how it is written in a name", async (_, command, argv) => {
    expect((await runCommand(command, argv)).err()).toContain(`hint: ${hint}`);
  });

  test("is not told of where a stack is meant", async () => {
    const ran = await runCommand(CreateCommand, [scratch("no,such.img"), scratch("e.cow")]);
    expect(ran.err()).not.toContain("comma");
  });
});
