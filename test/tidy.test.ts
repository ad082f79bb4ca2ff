/**
 * Proves that the source keeps to its house rules: the direction of imports, no cycles, rooms of a bearable size, a
 * header comment in each, and a library that neither prints nor exits.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const TESTS = fileURLToPath(new URL(".", import.meta.url));
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const SRC = join(ROOT, "src");
const LINES_AT_MOST = 320;
const COMMAND_LINES_AT_MOST = 80;

/** Left to right: a room may import itself and what stands left of it. commands/ and nbd/ are neighbours, see below. */
const ROOMS = [
  "bytes",
  "protocol",
  "formats",
  "device",
  "stack",
  "notes",
  "output",
  "operations",
  "nbd",
  "control",
  "index",
  "cli",
  "commands",
  "page",
];

/** Importable from anywhere; they themselves import only each other. */
const FOUNDATIONS = ["lib/errors.ts", "lib/context.ts"];

/** The one exception: the context names the type of storage it carries, and only its type. */
const ALLOWED_TYPES = new Set(["lib/context.ts → lib/device/storage.ts"]);

/** Words that make a sentence a riddle, each with the most that src, and docs with man/prose, may have. Only to be lowered. */
const AVOIDED: Readonly<Record<string, readonly [inSource: number, inDocuments: number]>> = {
  lies: [3, 1],
  stands: [3, 1],
  nobody: [3, 0],
  somebody: [2, 0],
  whoever: [2, 0],
  "goes on with": [1, 0],
  "of it": [45, 8],
};

/**
 * Questions to a format, a layer or a device that it should answer itself, in what it declares; and the files of the
 * library that ask so all the same, because they need what only a cowfile has.
 */
const GUESSES =
  /\b(?:formatId|id) [!=]== "(?:cowfile|dm-snapshot|dm-cow|qcow2|snap|lvm)"|includes\(":\/\/"\)|"(?:write|places|prepare)" in |instanceof (?:\w+(?:Device|Layer)|LayeredImage)\b/;
const MAY_GUESS = [
  "lib/operations/identity/serve-base.ts",
  "lib/operations/merge/doubts.ts",
  "lib/operations/merge/into-cowfile.ts",
  "lib/operations/merge/new-file.ts",
  "lib/operations/replace-cowfile.ts",
  "lib/operations/three-way.ts",
  "lib/stack/live/kept-layer.ts",
];

const CLI_PACKAGES = ["@oclif/core", "table", "cli-progress"];

interface Import {
  readonly target: string;
  readonly isTypeOnly: boolean;
}

interface Source {
  readonly name: string;
  readonly text: string;
  /** The text without comments and with empty string literals. */
  readonly code: string;
  readonly imports: readonly Import[];
}

const TOKENS = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`/g;
const STATEMENTS = /^\s*(?:import|export)\s+(type\s+)?[^"';]*?from\s+"([^"]+)"|^\s*import\s+()"([^"]+)"/gm;
const DYNAMIC = /\bimport\(\s*"([^"]+)"\s*\)/g;

function withoutComments(text: string): string {
  return text.replace(TOKENS, (token) => (token.startsWith("/") ? token.replace(/[^\n]/g, " ") : token));
}

function importsOf(text: string): Import[] {
  const code = withoutComments(text);
  const fixed = [...code.matchAll(STATEMENTS)].map((match) => ({
    target: match[2] ?? match[4] ?? "",
    isTypeOnly: match[1] !== undefined,
  }));
  const dynamic = [...code.matchAll(DYNAMIC)].map((match) => ({ target: match[1] ?? "", isTypeOnly: false }));
  return [...fixed, ...dynamic];
}

function load(): Source[] {
  return readdirSync(SRC, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => {
      const text = readFileSync(join(SRC, name), "utf8");
      const code = text.replace(TOKENS, (token) => (token.startsWith("/") ? "" : '""'));
      const imports = importsOf(text).map(({ target, isTypeOnly }) => ({
        target: target.startsWith(".") ? normalize(join(dirname(name), target)) : target,
        isTypeOnly,
      }));
      return { name, text, code, imports };
    });
}

/** `lib/device/sys/x.ts` → `device`, `cli/x.ts` → `cli`, `lib/index.ts` → `index`. */
function roomOf(name: string): string {
  const parts = name.split("/");
  const room = parts[0] === "lib" ? parts[1] : parts[0];
  return (room ?? "").replace(/\.ts$/, "");
}

function mayImport(from: string, to: string): boolean {
  if (FOUNDATIONS.includes(to)) return true;
  if (FOUNDATIONS.includes(from)) return false;
  const [here, there] = [roomOf(from), roomOf(to)];
  // The command line and the server don't know each other's insides: a command takes the server from its front door.
  if (here === "nbd" && (there === "cli" || there === "commands")) return false;
  const [left, right] = [ROOMS.indexOf(there), ROOMS.indexOf(here)];
  return left !== -1 && right !== -1 && left <= right;
}

function findCycles(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const cycles: string[] = [];
  const done = new Set<string>();
  const visit = (name: string, path: readonly string[]): void => {
    const start = path.indexOf(name);
    if (start !== -1) cycles.push([...path.slice(start), name].join(" → "));
    if (start !== -1 || done.has(name)) return;
    for (const next of graph.get(name) ?? []) visit(next, [...path, name]);
    done.add(name);
  };
  for (const name of graph.keys()) visit(name, []);
  return cycles;
}

const sources = load();
const library = sources.filter(({ name }) => name.startsWith("lib/"));

function offenders(among: readonly Source[], offends: (source: Source) => boolean): string[] {
  return among.filter(offends).map(({ name }) => name);
}

describe("tidy", () => {
  test("there is something to look at", () => {
    expect(library.length).toBeGreaterThan(2);
    expect(sources.find(({ name }) => name === "cli/main.ts")?.imports.length).toBeGreaterThan(4);
  });

  test("imports point to the left: bytes → protocol → formats → device → stack → notes → output → operations → commands, nbd", () => {
    const wrong = sources.flatMap(({ name, imports }) =>
      imports
        .filter(({ target }) => target.endsWith(".ts") && !mayImport(name, target))
        .filter(({ target, isTypeOnly }) => !(isTypeOnly && ALLOWED_TYPES.has(`${name} → ${target}`)))
        .map(({ target }) => `${name} → ${target}`),
    );
    expect(wrong).toEqual([]);
  });

  test("every relative import names a file that exists, with its extension", () => {
    const names = new Set(sources.map(({ name }) => name));
    const inside = (target: string): boolean => target.endsWith(".ts") || target.startsWith("..");
    const missing = sources.flatMap(({ name, imports }) =>
      imports.filter(({ target }) => inside(target) && !names.has(target)).map(({ target }) => `${name} → ${target}`),
    );
    expect(missing).toEqual([]);
  });

  test("there are no import cycles", () => {
    const graph = new Map(
      sources.map(({ name, imports }) => [
        name,
        imports
          .filter(({ target, isTypeOnly }) => !(isTypeOnly && ALLOWED_TYPES.has(`${name} → ${target}`)))
          .map(({ target }) => target),
      ]),
    );
    expect(findCycles(graph)).toEqual([]);
  });

  test("a cycle would be found", () => {
    const graph = new Map([
      ["a", ["b"]],
      ["b", ["c", "d"]],
      ["c", ["a"]],
      ["d", []],
    ]);
    expect(findCycles(graph)).toEqual(["a → b → c → a"]);
  });

  test("the library neither prints nor exits nor reads the command line", () => {
    const forbidden = /\bconsole\s*\.|\bprocess\s*\.\s*(?:exit|exitCode|argv|stdout|stderr|stdin)\b/;
    expect(offenders(library, ({ code }) => forbidden.test(code))).toEqual([]);
  });

  test("the library knows nothing of the packages of the command line", () => {
    const isOfCli = ({ target }: Import): boolean =>
      CLI_PACKAGES.some((name) => target === name || target.startsWith(`${name}/`));
    expect(offenders(library, ({ imports }) => imports.some(isOfCli))).toEqual([]);
  });

  test("what a format, a layer or a device can do is declared, not guessed", () => {
    const guess = (text: string): boolean => GUESSES.test(withoutComments(text));
    const guessing = offenders(library, ({ text }) => guess(text));
    expect(guessing.filter((name) => !MAY_GUESS.includes(name))).toEqual([]);
    expect(guess('if (format.id === "lvm")') && guess("layer instanceof CowfileLayer")).toBe(true);
  });

  test("only bin, signals and nothing else end the process", () => {
    const ends = offenders(sources, ({ code }) => /\bprocess\s*\.\s*exit\s*\(/.test(code));
    expect(ends).toEqual(["cli/signals.ts"]);
  });

  test.each([
    ["file", sources, LINES_AT_MOST],
    ["command", sources.filter(({ name }) => name.startsWith("commands/")), COMMAND_LINES_AT_MOST],
  ] as const)("no %s has outgrown its room", (_, among, most) => {
    const lines = (text: string): number => text.trimEnd().split("\n").length;
    const large = among.filter(({ text }) => lines(text) > most).map(({ name, text }) => `${name}: ${lines(text)}`);
    expect(large).toEqual([]);
  });

  test("every file starts by saying what it owns", () => {
    const header = /^(?:#![^\n]*\n)?\/\*\*?[\s\S]*?\bOwns?\b[\s\S]*?\*\//;
    expect(offenders(sources, ({ text }) => !header.test(text))).toEqual([]);
  });

  test("words to avoid become fewer: lower a number when you get below it", () => {
    const documents = ["docs", "man/prose"].flatMap((folder) =>
      readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
        .filter((name) => name.endsWith(".md"))
        .map((name) => readFileSync(join(ROOT, folder, name), "utf8")),
    );
    const count = (texts: readonly string[], word: string): number =>
      texts.join("\n").match(new RegExp(`\\b${word}\\b`, "gi"))?.length ?? 0;
    const tooMany = Object.entries(AVOIDED).flatMap(([word, [inSource, inDocuments]]) => [
      ...(count(
        sources.map(({ text }) => text),
        word,
      ) > inSource
        ? [`"${word}" in src`]
        : []),
      ...(count(documents, word) > inDocuments ? [`"${word}" in docs and man/prose`] : []),
    ]);
    expect(tooMany).toEqual([]);
  });

  test("every file and folder has a kebab-case name", () => {
    const kebab = /^(?:[a-z0-9]+(?:-[a-z0-9]+)*\/)*[a-z0-9]+(?:-[a-z0-9]+)*\.ts$/;
    expect(offenders(sources, ({ name }) => !kebab.test(relative(".", name)))).toEqual([]);
  });

  describe("tests that run with native calls and without", () => {
    const tests = readdirSync(TESTS, { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".test.ts") && name !== "tidy.test.ts")
      .map((name) => ({ name, text: readFileSync(join(TESTS, name), "utf8") }));
    const expectsElse = ({ text }: { readonly text: string }): boolean =>
      /import \{[^}]*\bseesHoles\b|process\.env\["COWTOOL_NO_FFI"\]/.test(text);
    const isBoth = (name: string): boolean => name.endsWith(".both.test.ts");

    test("are all those that expect something else without", () => {
      const wrong = tests.filter((file) => expectsElse(file) && !isBoth(file.name));
      expect(wrong.map(({ name }) => name)).toEqual([]);
    });

    test("work on files of the machine, or expect something else: those in memory prove the same twice", () => {
      const onFiles = /\b(?:scratchDirectory|useImages|tmpdir)\b|support\/command\/harness\.ts/;
      const wrong = tests.filter((file) => isBoth(file.name) && !onFiles.test(file.text) && !expectsElse(file));
      expect(wrong.map(({ name }) => name)).toEqual([]);
    });
  });
});
