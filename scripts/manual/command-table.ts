/**
 * Owns the list of all commands, for what is generated from them.
 */
import { readdirSync } from "node:fs";
import { basename } from "node:path";
import { pathToFileURL } from "node:url";
import { type CommandClass, type CommandRow, commandRow, type FlagRow } from "../../src/cli/command-row.ts";

const FOLDER = new URL("../../src/commands/", import.meta.url);

/** Every command in src/commands, in alphabetical order. */
export async function loadCommands(): Promise<readonly CommandRow[]> {
  const names = readdirSync(FOLDER).sort();
  const foreign = names.filter((name) => !name.endsWith(".ts"));
  if (foreign.length > 0) throw new Error(`src/commands holds ${foreign.join(", ")}: topics are not provided for here`);
  const rows: CommandRow[] = [];
  for (const name of names) {
    const file = pathToFileURL(new URL(name, FOLDER).pathname).href;
    const module = (await import(/* @vite-ignore */ file)) as { readonly default: CommandClass };
    if (!module.default.hidden) rows.push(commandRow(basename(name, ".ts"), module.default));
  }
  return rows;
}

/** `-o`, `--output`, in the order in which one looks for them. */
export function spellings({ name, char }: FlagRow): readonly string[] {
  return char === undefined ? [`--${name}`] : [`-${char}`, `--${name}`];
}
