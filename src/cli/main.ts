/**
 * Owns the way from the command line to a command: help, version, unknown commands, and whatever no command caught. Must
 * stay free of imports that only commands need: every start pays for them.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Config, type Interfaces, run, settings } from "@oclif/core";
import { CowError } from "../lib/errors.ts";
import { requireUtf8 } from "./raw-arguments.ts";
import { reportError, wantsJson, wantsNoColour } from "./report-error.ts";
import { processTerminal } from "./terminal.ts";

export interface Start {
  /** Without node and script. */
  readonly argv: readonly string[];
  /** The folder of package.json. */
  readonly root: string;
  /** Where commands come from: `dist` as published, `src` by type stripping while developing. */
  readonly source: "dist" | "src";
}

const EXTENSION = { dist: ".js", src: ".ts" } as const;

async function loadConfig({ root, source }: Start): Promise<Config> {
  // oclif would look for ts-node or tsx, and quietly fall back to dist, as soon as NODE_ENV is "test".
  settings.enableAutoTranspile = false;
  if (source === "dist") return await Config.load({ root, userPlugins: false, devPlugins: false });
  const pjson = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Interfaces.PJSON;
  const commands = { strategy: "pattern", target: "./src/commands", globPatterns: ["**/*.ts"] } as const;
  const oclif = { ...pjson.oclif, commands: { ...commands, globPatterns: [...commands.globPatterns] } };
  return await Config.load({
    root,
    pjson: { ...pjson, oclif },
    ignoreManifest: true,
    userPlugins: false,
    devPlugins: false,
  });
}

/** How many single-character edits lie between two words. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (const [i, left] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, right] of [...b].entries()) {
      const replaced = (row[j] ?? 0) + (left === right ? 0 : 1);
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}

/** Throws for a first word that is no command; oclif would hide a command that can't be loaded behind this. */
async function refuseUnknown(word: string, config: Config, { root, source }: Start): Promise<void> {
  const file = join(root, source, "commands", `${word}${EXTENSION[source]}`);
  if (/^[a-z-]+$/.test(word) && existsSync(file)) await import(pathToFileURL(file).href);
  const near = config.commandIDs.filter((id) => editDistance(id, word) <= 2);
  const hints = [...near.map((id) => `did you mean ${id}?`), `see ${config.bin} --help`];
  const message = word.startsWith("-") ? `unknown flag before the command: ${word}` : `unknown command: ${word}`;
  throw new CowError("usage", message, { hints });
}

/** `cowtool help info` is `cowtool info --help`. */
function withoutHelpWord(argv: readonly string[]): string[] {
  return argv[0] === "help" ? [...argv.slice(1), "--help"] : [...argv];
}

function asksForHelpOrVersion(word: string | undefined): boolean {
  return word === undefined || ["--help", "-h", "--version", "-V"].includes(word);
}

/** Runs one command line and sets the exit status of the process; never throws, never ends the process itself. */
export async function main(start: Start): Promise<void> {
  const argv = withoutHelpWord(start.argv);
  try {
    requireUtf8(start.argv);
    const config = await loadConfig(start);
    const [word] = argv;
    if (!asksForHelpOrVersion(word) && !config.findCommand(word ?? "")) await refuseUnknown(word ?? "", config, start);
    await run(argv, config);
  } catch (error) {
    await reportError(error, {
      terminal: processTerminal(),
      json: wantsJson(argv),
      noColour: wantsNoColour(argv),
      help: "cowtool --help",
    });
  }
}
