/**
 * Owns starting a command from the command line: help, version, unknown commands, and uncaught errors. Must stay free
 * of imports that only commands need: every start pays for them.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import type { Config, Interfaces } from "@oclif/core";
import { CowError } from "../lib/errors.ts";
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
  new (argv: string[], config: Pick<Config, "bin">): { _run(): Promise<unknown> };
}

const EXTENSION = { "dist/program": ".js", src: ".ts" } as const;

function commandIds({ root, source }: Start): readonly string[] {
  return readdirSync(join(root, source, "commands")).map((name) => name.replace(/\.[jt]s$/, ""));
}

/** The class of a command, or undefined for a word that is none. A command that cannot be loaded throws. */
function commandClass(word: string, { root, source }: Start): Runnable | undefined {
  const file = join(root, source, "commands", `${word}${EXTENSION[source]}`);
  if (!/^[a-z][a-z-]*$/.test(word) || !existsSync(file)) return undefined;
  const { default: command } = createRequire(import.meta.url)(file) as { readonly default: Runnable };
  command.id = word;
  return command;
}

/** Has oclif answer: it reads every command. */
async function showHelp(argv: string[], { root, source }: Start): Promise<void> {
  const { Config, run, settings } = await import("@oclif/core");
  // oclif would look for ts-node or tsx, and quietly fall back to dist, as soon as NODE_ENV is "test".
  settings.enableAutoTranspile = false;
  const pjson = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Interfaces.PJSON;
  const globPatterns = [`**/*${EXTENSION[source]}`];
  const commands = { strategy: "pattern", target: `./${source}/commands`, globPatterns } as const;
  const oclif = { ...pjson.oclif, commands };
  const load = { root, pjson: { ...pjson, oclif }, ignoreManifest: true, userPlugins: false, devPlugins: false };
  await run(argv, await Config.load(load));
}

function unknown(word: string, start: Start): CowError {
  const hints = [...nearest(word, commandIds(start)).map((id) => `did you mean ${id}?`), "see cowtool --help"];
  const message = word.startsWith("-") ? `unknown flag before the command: ${word}` : `unknown command: ${word}`;
  return new CowError("usage", message, { hints });
}

/** `cowtool help info` is `cowtool info --help`. */
function withoutHelpWord(argv: readonly string[]): string[] {
  return argv[0] === "help" ? [...argv.slice(1), "--help"] : [...argv];
}

/** Is it for oclif to answer: help, or the version? */
function asksForHelpOrVersion(argv: readonly string[]): boolean {
  const [word] = argv;
  if (word === undefined || word === "--version" || word === "-V") return true;
  const end = argv.indexOf("--");
  return argv.slice(0, end === -1 ? undefined : end).some((each) => each === "--help" || each === "-h");
}

/** Runs one command line and sets the exit status of the process; never throws, never ends the process itself. */
export async function main(start: Start): Promise<void> {
  const argv = withoutHelpWord(start.argv);
  try {
    requireUtf8(start.argv);
    const [word = "", ...rest] = argv;
    const isPlain = !asksForHelpOrVersion(argv);
    const command = isPlain ? commandClass(word, start) : undefined;
    if (command) await new command(rest, { bin: "cowtool" })._run();
    else if (isPlain || (!/^(?:-.*)?$/.test(word) && !commandIds(start).includes(word))) throw unknown(word, start);
    else await showHelp(argv, start);
  } catch (error) {
    await reportError(error, {
      terminal: processTerminal(),
      json: wantsJson(argv),
      noColour: wantsNoColour(argv),
      help: "cowtool --help",
    });
  }
}
