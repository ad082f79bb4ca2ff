/**
 * Owns starting a command from the command line: help, version, unknown commands, and uncaught errors. Must stay free
 * of imports that only commands need: every start pays for them.
 * oclif parses flags; nothing else of it runs.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import type { Config } from "@oclif/core";
import { CowError } from "../lib/errors.ts";
import type { CommandClass } from "./command-row.ts";
import { commandHabit } from "./habits.ts";
import { nearest } from "./nearest.ts";
import { requireUtf8 } from "./raw-arguments.ts";
import { reportError, wantsJson, wantsNoColour } from "./report-error.ts";
import { processTerminal } from "./terminal.ts";

export interface Start {
  /** Without node and script. */
  readonly argv: readonly string[];
  /** The folder of package.json. */
  readonly root: string;
  /** Where commands come from: the built program as published, `src` by type stripping while developing. */
  readonly source: "dist/program" | "src";
}

interface Runnable {
  id: string;
  new (argv: string[], config: Pick<Config, "bin" | "root">): { _run(): Promise<unknown> };
}

const EXTENSION = { "dist/program": ".js", src: ".ts" } as const;

function commandIds({ root, source }: Start): readonly string[] {
  return readdirSync(join(root, source, "commands"))
    .map((name) => name.replace(/\.[jt]s$/, ""))
    .sort();
}

/** The class of a command, or undefined for a word that is none. A command that cannot be loaded throws. */
function commandClass(word: string, { root, source }: Start): Runnable | undefined {
  const file = join(root, source, "commands", `${word}${EXTENSION[source]}`);
  if (!/^[a-z][a-z-]*$/.test(word) || !existsSync(file)) return undefined;
  const { default: command } = createRequire(import.meta.url)(file) as { readonly default: Runnable };
  command.id = word;
  return command;
}

async function showHelp(word: string | undefined, start: Start): Promise<void> {
  const [{ commandRow }, { commandHelp, mainHelp }] = await Promise.all([
    import("./command-row.ts"),
    import("./help.ts"),
  ]);
  const terminal = processTerminal();
  const row = (id: string) => commandRow(id, commandClass(id, start) as unknown as CommandClass);
  if (word !== undefined) return void (await terminal.writeOut(commandHelp(row(word), terminal.columns)));
  const { layerFormats } = await import("../lib/formats/registry.ts");
  const { CONVERT_FORMATS } = await import("../lib/operations/convert/request.ts");
  const formats = { read: ["raw", ...layerFormats.map(({ id }) => id)], written: CONVERT_FORMATS };
  await terminal.writeOut(mainHelp(commandIds(start).map(row), formats, terminal.columns));
}

function showVersion({ root }: Start): void {
  const { name, version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Record<string, string>;
  void processTerminal().writeOut(`${name}/${version} ${process.platform}-${process.arch} node-${process.version}\n`);
}

function unknown(word: string, start: Start): CowError {
  const habit = commandHabit(word);
  const near = nearest(word, commandIds(start)).map((id) => `did you mean ${id}?`);
  const hints = [...(habit === undefined ? near : [habit]), "see cowtool --help"];
  const message = word.startsWith("-") ? `unknown flag before the command: ${word}` : `unknown command: ${word}`;
  return new CowError("usage", message, { hints });
}

/** `cowtool help info` is `cowtool info --help`. */
function withoutHelpWord(argv: readonly string[]): string[] {
  return argv[0] === "help" ? [...argv.slice(1), "--help"] : [...argv];
}

function asksForHelp(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  return (
    argv.length === 0 || argv.slice(0, end === -1 ? undefined : end).some((each) => each === "--help" || each === "-h")
  );
}

/** Runs one command line and sets the exit status of the process; never throws, never ends the process itself. */
export async function main(start: Start): Promise<void> {
  const argv = withoutHelpWord(start.argv);
  try {
    requireUtf8(start.argv);
    const [word = "", ...rest] = argv;
    if (word === "--version" || word === "-V") return showVersion(start);
    const isHelp = asksForHelp(argv);
    if (isHelp && /^(--help|-h)?$/.test(word)) return await showHelp(undefined, start);
    const command = commandClass(word, start);
    if (!command) throw unknown(word, start);
    if (isHelp) await showHelp(word, start);
    else await new command(rest, { bin: "cowtool", root: start.root })._run();
  } catch (error) {
    await reportError(error, {
      terminal: processTerminal(),
      json: wantsJson(argv),
      noColour: wantsNoColour(argv),
      help: "cowtool --help",
    });
  }
}
