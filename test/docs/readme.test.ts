/**
 * Proves that README.md tells the truth: its tour runs and prints what is shown, its tables are complete, its links lead
 * somewhere.
 *
 * In a block marked `console`, a line beginning with `$ ` is a command, with its exit status in a comment where that is
 * not 0, and what follows is its output; a line `…` stands for any number of lines, none included.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { describe, expect, it, test } from "vitest";
import { EXIT } from "../../src/cli/exit-codes.ts";
import { ROOT, runProgram } from "../support/run-command.ts";
import { scratchDirectory } from "../support/scratch.ts";

/** The e2fsprogs that laid out the file system of the tour. With another one, figures may differ, but no words. */
const SHOWN_E2FSPROGS = "1.47.0";

const README = readFileSync(join(ROOT, "README.md"), "utf8");
/** Debian puts mke2fs and its kin where only root looks for programs. */
const PATH = [process.env["PATH"], "/usr/sbin", "/sbin"].filter(Boolean).join(delimiter);
const ENV = { PATH, LC_ALL: "C.UTF-8", NO_COLOR: "1" };

interface Step {
  readonly command: string;
  readonly status: number;
  readonly output: readonly string[];
}

function tourOf(markdown: string): Step[] {
  return [...markdown.matchAll(/^```console\n([\s\S]*?)^```$/gm)].flatMap(([, block = ""]) =>
    block.split(/^\$ /m).flatMap((text) => {
      const [line = "", ...output] = text.trimEnd().split("\n");
      const [command = "", comment = ""] = line.split(/\s+# /);
      const status = Number(/^exit status (\d+)/.exec(comment)?.[1] ?? 0);
      return line === "" ? [] : [{ command, status, output }];
    }),
  );
}

/** Takes out what differs from run to run and from machine to machine. */
function stable(text: string, sameLayout: boolean): string {
  const always = text
    .replace(/0x[0-9a-f]{8}\b/g, "FINGERPRINT")
    .replace(/on disk .*/g, "on disk SIZE")
    .replace(/, \d+ notes?$/gm, "");
  return sameLayout ? always : always.replace(/^[·░▒▓█]+$/gm, "MAP").replace(/\([\d.]+ [KMGi]*B\)|\d[\d.]*/g, "N");
}

/** An expression that matches the lines, where `…` is any number of lines. */
function patternOf(lines: readonly string[], sameLayout: boolean): RegExp {
  const escaped = (line: string): string => stable(line, sameLayout).replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  const parts = lines.map((line) => (line === "…" ? "(?:.*\\n)*" : `${escaped(line)}\\n`));
  return new RegExp(`^${parts.join("")}$`);
}

interface Ran {
  readonly status: number | undefined;
  readonly output: string;
  readonly errors: string;
}

/** Of other programs than cowtool, what they print on stderr is not compared: there they tell their version. */
async function run(command: string, cwd: string): Promise<Ran> {
  if (command.startsWith("cowtool ")) {
    const { status, stdout, stderr } = await runProgram(command.split(" ").slice(1), { cwd, env: ENV });
    return { status, output: stdout + stderr, errors: stderr };
  }
  const env = { ...process.env, ...ENV };
  const { status, stdout, stderr } = spawnSync("sh", ["-c", command], { cwd, env, encoding: "utf8" });
  return { status: status ?? undefined, output: stdout, errors: stderr };
}

function isInstalled(program: string): boolean {
  return PATH.split(delimiter).some((folder) => existsSync(join(folder, program)));
}

const missing = ["mke2fs", "debugfs", "e2fsck"].filter((program) => !isInstalled(program));
if (missing.length > 0) {
  // biome-ignore lint/suspicious/noConsole: a skip that nobody sees would pass for a proof.
  console.warn(`SKIPPED: no ${missing.join(", ")} (package e2fsprogs): the tour of README.md is not run`);
}

describe("README.md", () => {
  const path = scratchDirectory();

  it.skipIf(missing.length > 0)("shows a tour that runs", async () => {
    const version = spawnSync("mke2fs", ["-V"], { env: { ...process.env, PATH }, encoding: "utf8" }).stderr;
    const sameLayout = version.startsWith(`mke2fs ${SHOWN_E2FSPROGS} `);
    const tour = tourOf(README);
    expect(tour.filter(({ command }) => command.startsWith("cowtool ")).length).toBeGreaterThan(7);
    for (const { command, status, output } of tour) {
      const ran = await run(command, path("."));
      expect(ran, `$ ${command}\n${ran.errors}`).toMatchObject({ status });
      expect(stable(ran.output, sameLayout), `$ ${command}`).toMatch(patternOf(output, sameLayout));
    }
  });

  test("names every command", () => {
    const commands = readdirSync(join(ROOT, "src/commands")).map((name) => name.replace(/\.ts$/, ""));
    const named = [...README.matchAll(/^\| `([a-z-]+) [^`]*` \|/gm)].map(([, name]) => name);
    expect(named.sort()).toEqual(commands.sort());
  });

  test("names every exit status", () => {
    const named = [...README.matchAll(/^\| ([\d, ]+) \|/gm)].flatMap(([, numbers = ""]) => numbers.split(", "));
    expect(named.map(Number)).toEqual(Object.values(EXIT));
  });

  test("links to what is there", () => {
    const targets = [...README.matchAll(/\]\(([^)#]+)\)/g)].map(([, target = ""]) => target);
    expect(targets.length).toBeGreaterThan(4);
    const local = targets.filter((target) => !target.includes("://"));
    expect(local.filter((target) => !existsSync(join(ROOT, target)))).toEqual([]);
  });
});
