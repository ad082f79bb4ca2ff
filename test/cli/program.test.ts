/** Proves how the real program starts and refuses; what its commands do is proved elsewhere. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "@oclif/core";
import { describe, expect, test } from "vitest";
import { BaseCommand } from "../../src/cli/base-command.ts";
import { finish } from "../support/command/real-process.ts";
import { ROOT } from "../support/command/run-command.ts";

const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };

describe("cowtool", () => {
  test.each(["--version", "-V"])("%s", async (flag) => {
    const ran = await finish([flag]);
    expect(ran).toMatchObject({ status: 0, stderr: "" });
    expect(ran.stdout).toBe(`cowtool/${version} ${process.platform}-${process.arch} node-${process.version}\n`);
  });

  test("the fast way to the version says what the other says", async () => {
    const [fast, slow] = await Promise.all([finish(["--version"]), finish(["--version", "--x"])]);
    expect(slow.stdout).toBe(fast.stdout);
  });

  test.each([["--help"], ["-h"], ["help"], []])("helps when asked by %j", async (...argv) => {
    const ran = await finish(argv.filter((word) => typeof word === "string"));
    expect(ran).toMatchObject({ status: 0, stderr: "" });
    expect(ran.stdout).toContain("USAGE");
  });

  test("refuses an unknown command in both forms", async () => {
    const human = await finish(["marge"]);
    expect(human).toMatchObject({ status: 16, stdout: "" });
    expect(human.stderr).toMatch(/^cowtool: error: unknown command: marge\n/);
    const json = await finish(["compare", "--json"], { env: { NODE_ENV: "test" } });
    expect(json).toMatchObject({ status: 16, stderr: "" });
    const hints = [expect.stringContaining("`cowtool diff A B`"), "see cowtool --help"];
    expect(JSON.parse(json.stdout)).toMatchObject({ error: { code: "usage", hints, exit_code: 16 } });
  });

  test("says which formats there are, and of a command what its flags take", async () => {
    const all = (await finish(["--help"])).stdout;
    for (const words of ["qcow2", "dm-snapshot", "FORMATS", "EXIT STATUS", "man cowtool"]) expect(all).toContain(words);
    const one = (await finish(["info", "--help"])).stdout;
    for (const words of ["--map[=svg]", "-o, --output FILE", "default auto", "man cowtool-info"])
      expect(one).toContain(words);
    for (const line of `${all}${one}`.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
  });

  test.each([
    [["inof", "x"], "did you mean info?"],
    [["verify", "x"], "did you mean verify-fingerprint?"],
    [["merge", "a", "b", "--udno=c"], "did you mean --undo?"],
    [["create", "a", "b", "--form", "c"], "did you mean --from?"],
  ])("of %j asks whether something else was meant", async (argv, hint) => {
    expect((await finish(argv)).stderr).toContain(`cowtool: hint: ${hint}\n`);
  });

  test("prints the completion scripts", async () => {
    expect((await finish(["completion", "bash"])).stdout).toBe(
      readFileSync(join(ROOT, "completions/cowtool.bash"), "utf8"),
    );
  });

  test("wants flags after the command", async () => {
    const ran = await finish(["--json", "info"]);
    expect(JSON.parse(ran.stdout)).toMatchObject({ error: { message: "unknown flag before the command: --json" } });
  });
});

describe("every command", () => {
  const files = readdirSync(join(ROOT, "src/commands")).filter((name) => name.endsWith(".ts"));

  test.each(files)(
    "%s loads, is of our base, says what it does, and never reads an argument from stdin",
    async (name) => {
      const { default: command } = (await import(join(ROOT, "src/commands", name))) as { default: typeof Command };
      expect(command.prototype).toBeInstanceOf(BaseCommand);
      expect(command.prototype).toBeInstanceOf(Command);
      expect(command.summary).toMatch(/^[a-z].*[^.]$/);
      for (const arg of Object.values(command.args)) expect(arg.ignoreStdin).toBe(true);
    },
  );
});
