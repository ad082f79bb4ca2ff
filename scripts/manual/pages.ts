/**
 * Owns the composition of man pages: which sections there are, in which order, what of them is generated and what comes
 * from man/prose. Must not write files.
 *
 * A file in man/prose holds `## SECTION`s. EXIT STATUS there is a list `name: meaning` with the names of
 * src/cli/exit-codes.ts; `{{problems}}` and the like stand for what facts.ts makes. SEE ALSO names other programs' pages.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { type CommandRow, type FlagRow, VERSION_FLAG } from "../../src/cli/command-row.ts";
import { EXIT } from "../../src/cli/exit-codes.ts";
import {
  argumentsText,
  columnsText,
  type ExitName,
  errorCodeRows,
  exitStatusText,
  layoutRows,
  optionsText,
  plain,
  problemsText,
  sentence,
  synopsisText,
  valueNames,
} from "./facts.ts";
import { type PageTitle, pageToRoff, type Sections } from "./roff.ts";

const PROSE = new URL("../../man/prose/", import.meta.url);
const PACKAGE = new URL("../../package.json", import.meta.url);

/** The date of the text, changed by hand when it changes much: a page must not differ from one day to the next. */
const MANUAL_DATE = "2026-11-21";

/** What can happen to any command. */
const ALWAYS: readonly ExitName[] = ["ok", "unsuitable", "operational", "usage", "internal", "sigint", "sigterm"];

const FRAGMENTS: Readonly<Record<string, () => string>> = {
  problems: problemsText,
  layout: () => columnsText(layoutRows()),
  "error-codes": () => columnsText(errorCodeRows().map((row) => row.map((cell) => cell.replaceAll("`", "")))),
};

function withFragments(text: string): string {
  return text.replace(/^\{\{([a-z-]+)\}\}$/gm, (_, name: string) => {
    const fragment = FRAGMENTS[name];
    if (!fragment) throw new Error(`no fragment ${name}`);
    return fragment();
  });
}

/** The sections of one prose file; a page without prose is a mistake that a test finds, not a reason to make none. */
function readProse(name: string): Map<string, string> {
  const file = new URL(`${name}.md`, PROSE);
  const sections = new Map<string, string>();
  if (!existsSync(file)) return sections;
  const [comment = "", ...parts] = readFileSync(file, "utf8").split(/^## /m);
  if (!/^<!--[\s\S]*-->\s*$/.test(comment)) throw new Error(`man/prose/${name}.md must begin with a comment`);
  for (const part of parts) {
    const [heading = "", ...lines] = part.split("\n");
    if (sections.has(heading)) throw new Error(`man/prose/${name}.md has two sections ${heading}`);
    sections.set(heading, withFragments(lines.join("\n").trim()));
  }
  return sections;
}

/** The names of the prose files: commands, and the pages that are no command. */
export function proseNames(): readonly string[] {
  return readdirSync(PROSE)
    .filter((name) => name.endsWith(".md"))
    .map((name) => name.slice(0, -".md".length));
}

/** Pages of other prose than a command's. */
export const OTHER_PROSE = ["cowtool", "cowfile", "shared"] as const;

/** Commands for the administrator: their pages are in section 8. */
const ADMINISTRATION: readonly string[] = ["attach", "detach"];

/** The section of a command's page. */
export function sectionOf(id: string): 1 | 8 {
  return ADMINISTRATION.includes(id) ? 8 : 1;
}

function parseExitStatus(text: string): Map<ExitName, string> {
  const own = new Map<ExitName, string>();
  for (const part of text.split(/\n(?=[a-z]+: )/)) {
    const [, name = "", meaning = ""] = /^([a-z]+): ([\s\S]+)$/.exec(part.trim()) ?? [];
    if (!(name in EXIT)) throw new Error(`EXIT STATUS has a line that is not "name: meaning": ${part}`);
    own.set(name as ExitName, meaning);
  }
  return own;
}

function exitStatus(command: CommandRow, prose: ReadonlyMap<string, string>): string {
  const text = prose.get("EXIT STATUS");
  const own = text === undefined ? new Map<ExitName, string>() : parseExitStatus(text);
  const asks = command.flags.some(({ name }) => name === "yes");
  const shown = (Object.keys(EXIT) as ExitName[]).filter(
    (name) => ALWAYS.includes(name) || own.has(name) || (name === "declined" && asks),
  );
  return exitStatusText(own, shown);
}

/** Captioned examples from the prose, then those of the class that it does not mention. */
function examples(command: CommandRow, prose: ReadonlyMap<string, string>): string {
  const text = prose.get("EXAMPLES") ?? "";
  const shown = new Set(text.split("\n").map((line) => line.trim()));
  const others = command.examples.filter((line) => !shown.has(line)).map((line) => `    ${line}`);
  return [text, ...others].filter((part) => part !== "").join("\n\n");
}

function seeAlso(self: string, commands: readonly CommandRow[], others: string | undefined): string {
  const ours = ["cowtool(1)", ...commands.map(({ id }) => `cowtool-${id}(${sectionOf(id)})`), "cowfile(5)"];
  const theirs = (others ?? "").split(/[\s,]+/).filter((name) => name !== "");
  return [...ours.filter((name) => !name.startsWith(`${self}(`)), ...theirs]
    .map((name) => name.replace(/^(.*)(\(\d\))$/, "**$1**$2"))
    .join(",\n");
}

function titleOf(name: string, section: PageTitle["section"], summary: string): PageTitle {
  const { version } = JSON.parse(readFileSync(PACKAGE, "utf8")) as { readonly version: string };
  return { name, section, summary, date: MANUAL_DATE, source: `cowtool ${version}` };
}

/** Sections with a place of their own; whatever else the prose has comes between these two. */
const FIRST = ["SYNOPSIS", "DESCRIPTION", "EXAMPLES", "COMMANDS", "ARGUMENTS", "OPTIONS"];
const LAST = ["PROBLEMS", "EXIT STATUS", "FILES", "ENVIRONMENT", "SEE ALSO"];

function inOrder(sections: ReadonlyMap<string, string>): Sections {
  const rest = [...sections.keys()].filter((heading) => !FIRST.includes(heading) && !LAST.includes(heading));
  const ordered = [...FIRST, ...rest, ...LAST].map((heading) => [heading, sections.get(heading) ?? ""] as const);
  return new Map(ordered.filter(([, text]) => text !== ""));
}

/** What cowtool keeps beside users' files: those that the page itself tells of are left out. */
function filesBeside(own = ""): string {
  const [intro = "", ...entries] = (readProse("shared").get("FILES") ?? "").split(/\n\n(?=\*)/);
  const suffix = (entry: string): string => /`(\.cowtool-[a-z]+)/.exec(entry)?.[1] ?? "";
  return ["### Files beside yours", intro, ...entries.filter((entry) => !own.includes(suffix(entry)))].join("\n\n");
}

function commandPage(command: CommandRow, commands: readonly CommandRow[]): string {
  const name = `cowtool-${command.id}`;
  const prose = readProse(command.id);
  const description = sentence(command.description, valueNames(command));
  const sections = new Map([
    ...prose,
    ["SYNOPSIS", synopsisText(command)],
    ["DESCRIPTION", [description, prose.get("DESCRIPTION") ?? ""].join("\n\n").trimEnd()],
    ["EXAMPLES", examples(command, prose)],
    ["ARGUMENTS", argumentsText(command)],
    ["OPTIONS", optionsText(command)],
    ["EXIT STATUS", exitStatus(command, prose)],
    ["FILES", [prose.get("FILES"), filesBeside(prose.get("FILES"))].filter(Boolean).join("\n\n")],
    ["ENVIRONMENT", readProse("shared").get("ENVIRONMENT") ?? ""],
    ["SEE ALSO", seeAlso(name, commands, prose.get("SEE ALSO"))],
  ]);
  return pageToRoff(titleOf(name, sectionOf(command.id), command.summary), inOrder(sections));
}

/** `--version` goes before a command only; the shared ones are on every command. */
function mainFlags({ flags }: CommandRow): FlagRow[] {
  return [{ ...VERSION_FLAG, isShared: false }, ...flags.filter(({ isShared }) => isShared)];
}

function mainPage(commands: readonly CommandRow[]): string {
  const prose = readProse("cowtool");
  const shared = readProse("shared");
  const rows = commands.map(({ id, summary }) => `**cowtool-${id}**(${sectionOf(id)})\n: ${sentence(plain(summary))}`);
  const [some] = commands;
  const sections = new Map([
    ...prose,
    [
      "SYNOPSIS",
      "**cowtool** *command* [*option*...] [*argument*...]\n\n**cowtool** `--help`\n\n**cowtool** `--version`",
    ],
    ["COMMANDS", rows.join("\n\n")],
    ["OPTIONS", some ? optionsText({ ...some, flags: mainFlags(some) }) : ""],
    ["EXIT STATUS", exitStatusText(new Map(), Object.keys(EXIT) as ExitName[])],
    ["ENVIRONMENT", shared.get("ENVIRONMENT") ?? ""],
    ["SEE ALSO", seeAlso("cowtool", commands, prose.get("SEE ALSO"))],
  ]);
  const summary = "work with cowloop copy-on-write files";
  return pageToRoff(titleOf("cowtool", 1, summary), inOrder(sections));
}

function formatPage(commands: readonly CommandRow[]): string {
  const prose = readProse("cowfile");
  const sections = new Map([...prose, ["SEE ALSO", seeAlso("cowfile", commands, prose.get("SEE ALSO"))]]);
  return pageToRoff(titleOf("cowfile", 5, "copy-on-write file of the cowloop driver"), inOrder(sections));
}

/** Every page by its path in the checkout. */
export function manPages(commands: readonly CommandRow[]): ReadonlyMap<string, string> {
  return new Map([
    ["man/cowfile.5", formatPage(commands)],
    ...commands.map(
      (command) => [`man/cowtool-${command.id}.${sectionOf(command.id)}`, commandPage(command, commands)] as const,
    ),
    ["man/cowtool.1", mainPage(commands)],
  ]);
}
