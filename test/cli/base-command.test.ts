/** Proves what every command inherits: output, exit status and errors in both forms, notices, prompts, interruption. */
import { Errors, Flags } from "@oclif/core";
import { describe, expect, test } from "vitest";
import { BaseCommand, type Outcome } from "../../src/cli/base-command.ts";
import { EXIT } from "../../src/cli/exit-codes.ts";
import { fileArg, yesFlag } from "../../src/cli/flags.ts";
import { asUsageError } from "../../src/cli/usage-error.ts";
import Invert from "../../src/commands/invert.ts";
import { CowError } from "../../src/lib/errors.ts";
import { fakeTerminal } from "../support/command/fake-terminal.ts";
import { runCommand } from "../support/command/run-command.ts";

class Trial extends BaseCommand<typeof Trial> {
  static override args = { file: fileArg("a file") };
  static override flags = { mode: Flags.string(), yes: yesFlag() };

  protected async execute(): Promise<Outcome> {
    const { file } = this.args;
    const { mode, yes } = this.flags;
    const context = this.context();
    if (mode === "locked") throw new CowError("locked", "in use", { file, hints: ["wait"] });
    if (mode === "bug") throw new TypeError("x is not a function");
    if (mode === "ask") await this.confirm(file, "really?", yes);
    if (mode === "notices") {
      context.onNotice?.({ severity: "warning", file, message: "it is old" });
      context.onNotice?.({ severity: "note", message: "it is a file" });
    }
    if (mode === "stop") {
      process.kill(process.pid, "SIGTERM");
      await new Promise((resolve) => context.signal?.addEventListener("abort", resolve));
      throw new CowError("interrupted", "interrupted: nothing done", { file });
    }
    return { result: { file, size: 2n ** 60n }, exitCode: EXIT.no, render: () => ["one", "two"] };
  }
}

describe("a command", () => {
  test("prints its result as text", async () => {
    const ran = await runCommand(Trial, ["a.cow"]);
    expect([ran.out(), ran.err(), ran.exitCode()]).toEqual(["one\ntwo\n", "", 1]);
  });

  test("prints its result as JSON", async () => {
    const ran = await runCommand(Trial, ["a.cow", "--json"]);
    expect(JSON.parse(ran.out())).toEqual({ file: "a.cow", size: "1152921504606846976" });
    expect([ran.err(), ran.exitCode()]).toEqual(["", 1]);
  });

  test("names file, reason and way out of a failure", async () => {
    const ran = await runCommand(Trial, ["a\u001b.cow", "--mode=locked"]);
    expect(ran.err()).toBe("cowtool: error: a\\x1b.cow: in use\ncowtool: hint: wait\n");
    expect([ran.out(), ran.exitCode()]).toEqual(["", 8]);
  });

  test("tells a failure as JSON on stdout", async () => {
    const ran = await runCommand(Trial, ["a.cow", "--mode=locked", "--json"]);
    const error = { code: "locked", message: "in use", details: { file: "a.cow" }, hints: ["wait"], exit_code: 8 };
    expect(JSON.parse(ran.out())).toEqual({ error });
    expect([ran.err(), ran.exitCode()]).toEqual(["", 8]);
  });

  test("calls a bug a bug, with a stack only for DEBUG", async () => {
    const ran = await runCommand(Trial, ["a.cow", "--mode=bug"]);
    expect(ran.err()).toMatch(
      /^cowtool: error: internal error: x is not a function \(a bug in cowtool\)\ncowtool: hint: /,
    );
    expect(ran.err()).not.toContain("    at ");
    expect(ran.exitCode()).toBe(70);
    const debugged = await runCommand(Trial, ["a.cow", "--mode=bug", "--json"], fakeTerminal({ env: { DEBUG: "*" } }));
    expect(debugged.err()).toContain("    at ");
    expect(JSON.parse(debugged.out())).toMatchObject({ error: { code: "internal", exit_code: 70 } });
  });

  test.each([
    [[], "missing argument: FILE"],
    [["a", "b"], "unexpected argument: b"],
    [["a", "--bogus"], "unknown flag: --bogus"],
    [["a", "--mode"], "flag --mode expects a value"],
    [["a", "--progress=loud"], "expected --progress=loud to be one of: auto, bar, plain, json, none"],
  ])("refuses %j in both forms", async (argv, message) => {
    const human = await runCommand(Trial, argv);
    expect(human.err()).toBe(`cowtool: error: ${message}\ncowtool: hint: see cowtool trial --help\n`);
    expect(human.exitCode()).toBe(16);
    const json = await runCommand(Trial, ["--json", ...argv]);
    expect(JSON.parse(json.out())).toMatchObject({ error: { code: "usage", message, exit_code: 16 } });
    expect([json.err(), json.exitCode()]).toEqual(["", 16]);
  });

  test("names all the flags that are missing", async () => {
    const ran = await runCommand(Invert, ["base.img", "vm.cow"]);
    expect(ran.err()).toContain("cowtool: error: missing required flags: --layer, --output\n");
    expect(ran.exitCode()).toBe(16);
  });

  test("puts notices on stderr, and -q drops notes only", async () => {
    const ran = await runCommand(Trial, ["a.cow", "--mode=notices", "--json"]);
    expect(ran.err()).toBe("cowtool: warning: a.cow: it is old\ncowtool: note: it is a file\n");
    const quiet = await runCommand(Trial, ["a.cow", "--mode=notices", "-q"]);
    expect(quiet.err()).toBe("cowtool: warning: a.cow: it is old\n");
  });

  test("colours severity words on a terminal only", async () => {
    const coloured = await runCommand(Trial, ["a", "--mode=locked"], fakeTerminal({ isTerminal: true }));
    expect(coloured.err()).toContain("cowtool: \u001b[1;31merror\u001b[0m: a: in use\n");
    const plain = await runCommand(Trial, ["a", "--mode=locked", "--no-color"], fakeTerminal({ isTerminal: true }));
    expect(plain.err()).not.toContain("\u001b");
  });

  test("asks before danger", async () => {
    const declined = await runCommand(Trial, ["a", "--mode=ask"], fakeTerminal({ isTerminal: true, answers: ["n"] }));
    expect(declined.exitCode()).toBe(32);
    expect((await runCommand(Trial, ["a", "--mode=ask"])).exitCode()).toBe(16);
    expect((await runCommand(Trial, ["a", "--mode=ask", "-y"])).exitCode()).toBe(1);
  });

  test("stops at a signal and says by which", async () => {
    const ran = await runCommand(Trial, ["a.cow", "--mode=stop"]);
    expect(ran.exitCode()).toBe(143);
    expect(process.listenerCount("SIGTERM")).toBe(0);
  });

  test("keeps its status when the reader goes away", async () => {
    const ran = await runCommand(Trial, ["a.cow"], fakeTerminal({ closesAfter: 0 }));
    expect([ran.out(), ran.err(), ran.exitCode()]).toEqual(["", "", 1]);
  });
});

test("a usage error has no colours of oclif's, which are there on a terminal", () => {
  const error = new Errors.CLIError("\u001b[1mMissing required flag \u001b[4mto\u001b[22m");
  expect(asUsageError(error, "cowtool convert --help")?.message).toBe("missing required flag: --to");
});
