/**
 * Owns the list of everything that is generated into the checkout, by path, with its text. Must not write files.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import type { CommandRow } from "../../src/cli/command-row.ts";
import { loadCommands } from "./command-table.ts";
import { bashCompletion } from "./completion-bash.ts";
import { fishCompletion } from "./completion-fish.ts";
import { zshCompletion } from "./completion-zsh.ts";
import { errorCodeRows, exitStatusRows, layoutRows, markdownTable, problemRows } from "./facts.ts";
import { manPages } from "./pages.ts";

const ROOT = new URL("../../", import.meta.url);

/** Tables in docs/, between `<!-- table: name -->` and `<!-- end -->`. */
const TABLES: Readonly<Record<string, () => readonly (readonly string[])[]>> = {
  layout: layoutRows,
  problems: problemRows,
  "exit-statuses": exitStatusRows,
  "error-codes": errorCodeRows,
};

function read(path: string): string {
  return readFileSync(new URL(path, ROOT), "utf8");
}

function documents(): Map<string, string> {
  const names = existsSync(new URL("docs", ROOT)) ? readdirSync(new URL("docs", ROOT)) : [];
  const pages = names.filter((name) => name.endsWith(".md")).map((name) => `docs/${name}`);
  return new Map(pages.map((path) => [path, withTables(read(path), path)]));
}

function withTables(text: string, path: string): string {
  return text.replace(/^<!-- table: (\S+) -->\n[\s\S]*?^<!-- end -->$/gm, (_, name: string) => {
    const rows = TABLES[name];
    if (!rows) throw new Error(`${path}: no table ${name}`);
    return `<!-- table: ${name} -->\n\n${markdownTable(rows())}\n\n<!-- end -->`;
  });
}

/** package.json with its list of pages; the rest of its text stays as it is. */
function packageWithPages(pages: readonly string[]): string {
  const list = pages.map((page) => `    ${JSON.stringify(`./${page}`)}`).join(",\n");
  const text = read("package.json");
  if (!/^ {2}"man": \[/m.test(text)) throw new Error('package.json has no "man": []');
  return text.replace(/^ {2}"man": \[[^\]]*\]/m, `  "man": [\n${list}\n  ]`);
}

function completions(commands: readonly CommandRow[]): Map<string, string> {
  return new Map([
    ["completions/_cowtool", zshCompletion(commands)],
    ["completions/cowtool.bash", bashCompletion(commands)],
    ["completions/cowtool.fish", fishCompletion(commands)],
  ]);
}

/** Every generated file, or file with generated parts, by its path in the checkout. */
export async function generatedFiles(): Promise<ReadonlyMap<string, string>> {
  const commands = await loadCommands();
  const pages = manPages(commands);
  return new Map([
    ...pages,
    ...completions(commands),
    ...documents(),
    ["package.json", packageWithPages([...pages.keys()])],
  ]);
}

/** Pages that were generated once, of commands that are no more. */
export async function leftoverFiles(): Promise<readonly string[]> {
  const current = await generatedFiles();
  return readdirSync(new URL("man", ROOT))
    .filter((name) => /\.\d$/.test(name))
    .map((name) => `man/${name}`)
    .filter((path) => !current.has(path));
}
