/**
 * Proves that README.md tells the truth: its tour runs and prints what is shown, its tables are complete, its links lead
 * somewhere.
 */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, test } from "vitest";
import { EXIT } from "../../src/cli/exit-codes.ts";
import {
  blocksOf,
  isInstalled,
  patternOf,
  prepareWorkplace,
  readDocument,
  runLine,
  stable,
  stepsOf,
} from "../support/command/documents.ts";
import { ROOT } from "../support/command/run-command.ts";
import { scratchDirectory } from "../support/scratch.ts";

/** The e2fsprogs that laid out the file system of the tour. With another one, figures may differ, but no words. */
const SHOWN_E2FSPROGS = "1.47.0";

const README = readDocument("README.md");

/** The fingerprint is that of a new file system, which has an identity of its own. */
function stableTour(text: string, sameLayout: boolean): string {
  const always = stable(text).replace(/0x[0-9a-f]{8}\b/g, "FINGERPRINT");
  return sameLayout ? always : always.replace(/^[·░▒▓█]+$/gm, "MAP").replace(/\([\d.]+ [KMGi]*B\)|\d[\d.]*/g, "N");
}

const missing = ["mke2fs", "debugfs", "e2fsck"].filter((program) => !isInstalled(program));
if (missing.length > 0) {
  // biome-ignore lint/suspicious/noConsole: a skip that nobody sees would pass for a proof.
  console.warn(`SKIPPED: no ${missing.join(", ")} (package e2fsprogs): the tour of README.md is not run`);
}

describe("README.md", () => {
  const path = scratchDirectory();

  it.skipIf(missing.length > 0)("shows a tour that runs", async () => {
    prepareWorkplace(path("."));
    const version = (await runLine("mke2fs -V", path("."))).errors;
    const sameLayout = version.startsWith(`mke2fs ${SHOWN_E2FSPROGS} `);
    const tour = blocksOf(README)
      .filter(({ language }) => language === "console")
      .flatMap(({ text }) => stepsOf(text));
    const simplify = (text: string): string => stableTour(text, sameLayout);
    expect(tour.filter(({ command }) => command.startsWith("cowtool ")).length).toBeGreaterThan(7);
    for (const { command, status, output } of tour) {
      const ran = await runLine(command, path("."));
      expect(ran, `$ ${command}\n${ran.errors}`).toMatchObject({ status });
      expect(simplify(ran.output), `$ ${command}`).toMatch(patternOf(output, simplify));
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
