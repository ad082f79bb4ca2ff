/**
 * Owns how the examples of a Markdown page are found, run and compared with what the page shows. Must not know any page.
 *
 * In a block marked `console`, a line beginning with `$ ` is a command, with its exit status in a comment where that is
 * not 0, and what follows is its output; a line `…` stands for any number of lines, none included. A block marked `js` is
 * a module; what it prints stands in it, in comments that begin with `// →`. If its first line is a comment with a file
 * name and nothing else, it is not run but saved under that name, for a command that comes later; `sh` blocks are always
 * of that kind.
 */
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { COMMAND_NAMES, run } from "./harness.ts";
import { ROOT } from "./run-command.ts";

export interface Block {
  readonly language: string;
  readonly text: string;
  /** Where it begins in the page. */
  readonly line: number;
}

export interface Step {
  readonly command: string;
  readonly status: number;
  readonly output: readonly string[];
}

export interface Ran {
  readonly status: number | undefined;
  readonly output: string;
  readonly errors: string;
}

export function readDocument(name: string): string {
  return readFileSync(join(ROOT, name), "utf8");
}

/** Every fenced block, in order. */
export function blocksOf(markdown: string): Block[] {
  return [...markdown.matchAll(/^```(\S*)\n([\s\S]*?)^```$/gm)].map(({ index, 1: language = "", 2: text = "" }) => ({
    language,
    text,
    line: markdown.slice(0, index).split("\n").length + 1,
  }));
}

export function stepsOf(text: string): Step[] {
  return text.split(/^\$ /m).flatMap((part) => {
    const [line = "", ...output] = part.trimEnd().split("\n");
    const [command = "", comment = ""] = line.split(/\s+# /);
    const status = Number(/^exit status (\d+)/.exec(comment)?.[1] ?? 0);
    return line === "" ? [] : [{ command, status, output }];
  });
}

/** The name under which a block is to be saved, if it is. */
export function fileNameOf({ text }: Block): string | undefined {
  return /^(?:\/\/|#) ([\w-]+\.\w+)\n/.exec(text)?.[1];
}

/** The lines that a module is said to print. */
export function printedBy({ text }: Block): string[] {
  return [...text.matchAll(/^ *\/\/ → (.*)$/gm)].map(([, line = ""]) => line);
}

/** Takes out what differs from run to run and from machine to machine. */
export function stable(text: string): string {
  return text.replace(/on disk .*/g, "on disk SIZE").replace(/, \d+ notes?\b.*$/gm, "");
}

/** An expression that matches the lines, where `…` is any number of lines. */
export function patternOf(lines: readonly string[], simplify: (text: string) => string = stable): RegExp {
  const escaped = (line: string): string => simplify(line).replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  const parts = lines.map((line) => (line === "…" ? "(?:.*\\n)*" : `${escaped(line)}\\n`));
  return new RegExp(`^${parts.join("")}$`);
}

/** Debian puts mke2fs and its kin where only root looks for programs. */
const PATH = [dirname(process.execPath), process.env["PATH"], "/usr/sbin", "/sbin"].filter(Boolean).join(delimiter);

export function isInstalled(program: string): boolean {
  return PATH.split(delimiter).some((folder) => existsSync(join(folder, program)));
}

/** A directory in which examples run as in a user's: `cowtool` is a command, and a package that can be imported. */
export function prepareWorkplace(directory: string): void {
  const folder = join(directory, "node_modules", ".bin");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "cowtool"), `#!/bin/sh\nexec "${process.execPath}" "${ROOT}/bin/run.js" "$@"\n`);
  chmodSync(join(folder, "cowtool"), 0o755);
  symlinkSync(ROOT, join(directory, "node_modules", "cowtool"));
}

const ENV = { LC_ALL: "C.UTF-8", NO_COLOR: "1" };

/** Words that a shell leaves as they are, bare or within single quotes. */
const PLAIN = /^cowtool(?: +(?:[\w,./:=@%+-]+|'[^']*'))+$/;

/** The words of a line that starts a command of ours and nothing else; undefined for one that needs a shell. */
function wordsOf(line: string): [name: string, ...argv: string[]] | undefined {
  const words = PLAIN.test(line) ? (line.match(/'[^']*'|[^ ]+/g) ?? []) : [];
  const [name = "", ...argv] = words.slice(1).map((word) => word.replaceAll("'", ""));
  const isOurs = COMMAND_NAMES.includes(name) && name !== "serve";
  return isOurs && !argv.includes("--help") && !argv.includes("-h") ? [name, ...argv] : undefined;
}

async function runHere([name, ...argv]: [name: string, ...argv: string[]], cwd: string): Promise<Ran> {
  const before = process.cwd();
  process.chdir(cwd);
  try {
    const { stdout, stderr, status } = await run(name, argv, { env: ENV });
    return { status, output: stdout + stderr, errors: stderr };
  } finally {
    process.chdir(before);
  }
}

/**
 * Runs a line as a shell would; our own commands, where there is nothing for a shell to do, in this process. Of other
 * programs than cowtool, what they print on stderr is not compared: there they tell their version.
 */
export async function runLine(line: string, cwd: string): Promise<Ran> {
  const words = wordsOf(line);
  if (words) return await runHere(words, cwd);
  const path = [join(cwd, "node_modules", ".bin"), PATH].join(delimiter);
  const env = { ...process.env, ...ENV, PATH: path };
  const { status, stdout, stderr } = spawnSync("sh", ["-c", line], { cwd, env, encoding: "utf8" });
  const output = line.startsWith("cowtool ") ? stdout + stderr : stdout;
  return { status: status ?? undefined, output, errors: stderr };
}
