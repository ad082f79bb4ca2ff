/**
 * Proves that the man pages are complete, current and sound: made from what the commands are now, with prose for each,
 * and read without a complaint by the two programs that show man pages.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadCommands } from "../../scripts/manual/command-table.ts";
import { generatedFiles, leftoverFiles } from "../../scripts/manual/generate.ts";
import { OTHER_PROSE, proseNames, sectionOf } from "../../scripts/manual/pages.ts";
import { pageToRoff } from "../../scripts/manual/roff.ts";
import { type CommandRow, HELP_FLAG, VERSION_FLAG } from "../../src/cli/command-row.ts";
import { EXIT } from "../../src/cli/exit-codes.ts";
import { ABI_NAMES, COW_PROBLEMS, headLayout } from "../../src/lib/index.ts";
import { isInstalled, runLine } from "../support/command/documents.ts";
import { skipsLoudly } from "../support/command/real-process.ts";
import { ROOT } from "../support/command/run-command.ts";

const commands = await loadCommands();
const generated = await generatedFiles();
const pages = [...generated.keys()].filter((path) => path.startsWith("man/"));

/** The committed page as words: no fonts, no escapes. */
function read(page: string): string {
  const text = readFileSync(join(ROOT, page), "utf8");
  return text
    .replace(/\\f[BIR]/g, "")
    .replace(/\\-/g, "-")
    .replace(/\\&/g, "")
    .replace(/\\e/g, "\\")
    .replace(/\\\(aq/g, "'");
}

function pageOf({ id }: CommandRow): string {
  return read(`man/cowtool-${id}.${sectionOf(id)}`);
}

function section(page: string, heading: string): string {
  const [, text = ""] = new RegExp(`^\\.SH ${heading}\\n([\\s\\S]*?)(?=^\\.SH |$(?![\\s\\S]))`, "m").exec(page) ?? [];
  return text;
}

describe("what is generated", () => {
  test.each([...generated.keys()])("%s is current (npm run man makes it so)", (path) => {
    const file = join(ROOT, path);
    expect(existsSync(file) ? readFileSync(file, "utf8") : undefined).toBe(generated.get(path));
  });

  test("there are no pages of commands that are no more", async () => {
    expect(await leftoverFiles()).toEqual([]);
  });

  test("the package ships it", () => {
    const { files } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { readonly files: string[] };
    expect(files).toEqual(expect.arrayContaining(["man", "completions", "docs"]));
  });
});

describe("prose", () => {
  test("there is a file for every command, and none for anything else", () => {
    const known = [...commands.map(({ id }) => id), ...OTHER_PROSE];
    expect([...proseNames()].sort()).toEqual(known.sort());
  });

  test.each(commands)("that of $id has what only people can tell", ({ id }) => {
    const text = readFileSync(join(ROOT, `man/prose/${id}.md`), "utf8");
    for (const heading of ["DESCRIPTION", "EXAMPLES", "EXIT STATUS"]) expect(text).toContain(`\n## ${heading}\n`);
  });

  test.each(commands)("every example of $id is explained", (command) => {
    const text = readFileSync(join(ROOT, `man/prose/${command.id}.md`), "utf8");
    expect(command.examples.filter((line) => !text.includes(`\n    ${line}\n`))).toEqual([]);
  });

  const everyFlag = new Set(
    [HELP_FLAG, VERSION_FLAG, ...commands.flatMap(({ flags }) => flags)].map(({ name }) => `--${name}`),
  );

  test.each(pages)("%s names no flag that is not there", (page) => {
    const named = [...read(page).matchAll(/(?<![\w-])--[a-z][a-z-]*/g)].map(([flag]) => flag);
    expect(named.filter((flag) => !everyFlag.has(flag))).toEqual([]);
  });

  test.each(pages)("the command lines in %s could be typed", (page) => {
    const lines = [...read(page).matchAll(/^cowtool ([a-z-]+)((?: [^\n|<>]+)?)/gm)];
    const wrong = lines.filter(([, id, rest = ""]) => {
      const command = commands.find((row) => row.id === id);
      const flags = rest.split(" ").filter((word) => /^--?[a-z]/.test(word));
      const known = command?.flags.flatMap(({ name, char }) => [`--${name}`, `-${char}`]) ?? [];
      return flags.some((flag) => !known.includes(flag.replace(/=.*/, "")));
    });
    expect(wrong.map(([line]) => line)).toEqual([]);
    if (page !== "man/cowfile.5") expect(lines.length).toBeGreaterThan(0);
  });
});

describe.each(commands)("cowtool-$id(1)", (command) => {
  const page = pageOf(command);

  test("has every argument and flag", () => {
    const options = section(page, "OPTIONS");
    for (const { name, char } of command.flags) {
      expect(options).toMatch(new RegExp(`^\\.TP\\n${char === undefined ? "" : `-${char}, `}--${name}\\b`, "m"));
    }
    for (const { name } of command.args)
      expect(section(page, "ARGUMENTS")).toMatch(new RegExp(`^\\.TP\\n${name}$`, "m"));
    for (const { name, isShared } of command.flags)
      if (!isShared) expect(section(page, "SYNOPSIS")).toMatch(new RegExp(`--?${name}|\\[-\\w`));
  });

  test("has its examples before its options", () => {
    const headings = [...page.matchAll(/^\.SH (.*)$/gm)].map(([, heading]) => heading);
    expect(headings.slice(0, 4)).toEqual(["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES"]);
    for (const line of command.examples) expect(section(page, "EXAMPLES")).toContain(line);
  });

  test("names exit statuses that exist", () => {
    const named = [...section(page, "EXIT STATUS").matchAll(/^\.TP\n(\d+)$/gm)].map(([, status]) => Number(status));
    const known: readonly number[] = Object.values(EXIT);
    expect(named.length).toBeGreaterThan(5);
    expect(named.filter((status) => !known.includes(status))).toEqual([]);
  });
});

test.each(["check", "repair"])("cowtool-%s(1) has every problem", (id) => {
  const problems = section(read(`man/cowtool-${id}.1`), "PROBLEMS");
  const named = [...problems.matchAll(/^\.TP\n([a-z-]+) \((\w+)\)$/gm)].map(([, name, severity]) => [name, severity]);
  expect(named).toEqual(Object.entries(COW_PROBLEMS).map(([name, { severity }]) => [name, severity]));
});

test("cowtool(1) leads to every command and exit status", () => {
  const page = read("man/cowtool.1");
  for (const { id } of commands) expect(section(page, "COMMANDS")).toContain(`cowtool-${id}(${sectionOf(id)})`);
  for (const status of Object.values(EXIT))
    expect(section(page, "EXIT STATUS")).toMatch(new RegExp(`^${status}$`, "m"));
});

test("cowfile(5) has the place of every field on every ABI", () => {
  const head = section(read("man/cowfile.5"), "THE HEAD");
  headLayout("le64").fields.forEach(({ name }, index) => {
    const places = ABI_NAMES.map((abi) => headLayout(abi).fields[index]);
    const cells = places.map((field) => `${field?.offsetBytes}/${field?.sizeBytes}`);
    expect(head).toMatch(new RegExp(`^${[name, ...cells].join(" +")} `, "m"));
  });
});

describe("the way from prose to roff", () => {
  const title = { name: "x", section: 1, summary: "y", date: "2026-01-01", source: "z" } as const;
  const body = (text: string): string => pageToRoff(title, new Map([["S", text]])).split(".SH S\n")[1] ?? "";

  test("keeps text from becoming a request", () => {
    expect(body(".so /etc/passwd\n'x\n\n    .ab")).toBe(
      "\\&.so /etc/passwd\n\\&'x\n.PP\n.RS 4\n.EX\n\\&.ab\n.EE\n.RE\n",
    );
    expect(body("a\\\\b `c\\d--e`")).toBe("a\\eb \\fBc\\ed\\-\\-e\\fR\n");
  });

  test("refuses what it does not know", () => {
    expect(() => body("an *unpaired mark")).toThrow("unpaired");
    expect(() => body("naïve")).toThrow("no roff");
    expect(() => body("| a | b |")).toThrow("not in the dialect");
  });
});

describe("programs that show man pages", () => {
  const noMandoc = skipsLoudly(!isInstalled("mandoc"), "no mandoc (package mandoc): the man pages are not checked");
  const noGroff = skipsLoudly(!isInstalled("groff"), "no groff (package groff-base): the man pages are not checked");

  test.skipIf(noMandoc)("mandoc finds nothing to warn about", async () => {
    const found = await runLine(`mandoc -T lint -W warning ${pages.join(" ")}`, ROOT);
    expect(found).toEqual({ status: 0, output: "", errors: "" });
  });

  test.skipIf(noGroff)("groff finds nothing to warn about", async () => {
    const found = await runLine(`groff -man -ww -z ${pages.join(" ")}`, ROOT);
    expect(found).toEqual({ status: 0, output: "", errors: "" });
  });
});
