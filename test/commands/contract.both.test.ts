/**
 * Proves the contract of the command line that every command keeps: usage errors, JSON that fits its schema, streams,
 * colour, progress, dry runs. Driven by the table in test/support/command/rows.ts. See docs of conventions: exit status
 * and streams. Bad files are proved in contract-files.test.ts, real processes in contract-process.test.ts.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { exitOfCode } from "../../src/cli/exit-codes.ts";
import { COW_PROBLEMS, type ErrorCode } from "../../src/lib/index.ts";
import { pictureOf, useImages } from "../support/command/files.ts";
import {
  COMMAND_NAMES,
  commandClass,
  eachOf,
  expectErrorJson,
  expectErrorLine,
  expectJson,
  expectNotices,
  expectPlainLines,
  rowOf,
  run,
  schemaOf,
} from "../support/command/harness.ts";
import { COMMAND_ROWS } from "../support/command/rows.ts";
import { ROOT } from "../support/command/run-command.ts";

const at = useImages();

/** `--from N` names no file. */
function isNumber(flag: object | undefined): boolean {
  return flag !== undefined && "helpValue" in flag && flag.helpValue === "N";
}

describe("the table of the contract", () => {
  test("has a row for each command, and each command a schema", () => {
    expect(Object.keys(COMMAND_ROWS).sort()).toEqual(COMMAND_NAMES);
    const schemas = readdirSync(join(ROOT, "schemas")).sort();
    const results = schemas.filter((name) => name.endsWith(".schema.json"));
    expect(results).toEqual([...COMMAND_NAMES, "error"].map((name) => `${name}.schema.json`).sort());
  });

  test.each(COMMAND_NAMES)(
    "%s: its row covers every argument, every file-taking flag and the dry run",
    async (name) => {
      const { args, flags = {} } = await commandClass(name);
      const { runs, inputs, outputs, foretold, needsServer, names = ["size"] } = rowOf(name);
      expect(runs.length > 1).toBe(!needsServer);
      expect("dry-run" in flags, "a command with --dry-run has lines that it foretells").toBe(foretold !== undefined);
      const titles = [...inputs, ...outputs].map(({ title }) => title).join("\n");
      for (const flag of ["rdofile", "from"].filter((each) => each in flags && !isNumber(flags[each])))
        expect(titles).toContain(`--${flag}`);
      if ("output" in flags) expect(titles).toContain("-o");
      const files = Object.entries(args).filter(
        ([name, { options }]) => options === undefined && !names.includes(name),
      );
      for (const [arg] of needsServer ? [] : files) expect(titles).toMatch(new RegExp(`^${arg.toUpperCase()}\\b`, "m"));
    },
  );

  test("the schema of failures knows every code, each with its exit status", () => {
    const codes: Readonly<Record<Exclude<ErrorCode, "interrupted">, true>> = {
      "bad-head": true,
      unsupported: true,
      dirty: true,
      packed: true,
      truncated: true,
      damaged: true,
      "wrong-base": true,
      unsuitable: true,
      "pending-merge": true,
      io: true,
      "not-found": true,
      permission: true,
      exists: true,
      "no-space": true,
      locked: true,
      usage: true,
      "needs-confirmation": true,
      declined: true,
    };
    const known = schemaOf("error").properties?.["error"]?.properties?.["code"]?.enum;
    expect([...(known ?? [])].sort()).toEqual([...Object.keys(codes), "interrupted", "internal"].sort());
    const failure = (code: string, exit_code: number): string =>
      JSON.stringify({ error: { code, message: "m", details: {}, hints: [], exit_code } });
    for (const code of Object.keys(codes)) {
      expectJson(failure(code, exitOfCode(code as ErrorCode)), "error");
      expect(() => expectJson(failure(code, 1), "error")).toThrow();
    }
    expectJson(failure("interrupted", 143), "error");
  });

  test.each(["info", "check", "repair"])("the schema of %s names every kind of problem", (name) => {
    const problem = schemaOf(name).$defs?.["problem"]?.properties?.["id"];
    expect([...(problem?.examples ?? [])].sort()).toEqual(Object.keys(COW_PROBLEMS).sort());
  });
});

/** What may come from flags as well as from arguments is missed by the command itself, in its own words. */
async function mayBeBare(name: string): Promise<boolean> {
  const { args } = await commandClass(name);
  return Object.values(args).every(({ required }) => !required);
}

describe.each(COMMAND_NAMES)("%s", (name) => {
  test("refuses to run without arguments, in both forms", async () => {
    const words = (await mayBeBare(name)) ? /: there is nothing to / : /: missing arguments?: [A-Z]+/;
    expect(expectErrorLine(await run(name, []), 16)).toMatch(words);
    expect(expectErrorJson(await run(name, ["--json"]), 16)).toMatchObject({ code: "usage" });
  });

  test("refuses an unknown flag and an argument too many, and says which", async () => {
    const { runs, needsServer } = rowOf(name);
    const [argv = needsServer] = runs.map((line) => line.argv(at));
    expect(expectErrorLine(await run(name, [...(argv ?? []), "--bogus"]), 16)).toContain("--bogus");
    const { strict, flags = {} } = await commandClass(name);
    // Where any number of files may stand, one more is one that is missing.
    const surplus = await run(name, [...(argv ?? []), "surplus"], { columns: 200 });
    if ("no-keep-going" in flags) {
      expect([surplus.status, surplus.stderr]).toEqual([8, "cowtool: error: surplus: no such file or directory\n"]);
      expect(surplus.stdout).toMatch(/^surplus +failed .* no such file or directory$/m);
    } else expect(expectErrorLine(surplus, strict || needsServer ? 16 : 8)).toContain("surplus");
    expect(expectErrorJson(await run(name, [...(argv ?? []), "--bogus", "--json"]), 16).code).toBe("usage");
  });

  test("names its help where it refuses an argument", async () => {
    const wrong = (await mayBeBare(name)) ? ["--no-such-flag"] : [];
    expect((await run(name, wrong)).stderr).toContain(`cowtool: hint: see cowtool ${name} --help\n`);
  });

  test("shows examples that it would accept", async () => {
    const { examples } = await commandClass(name);
    expect(examples.length).toBeGreaterThan(0);
    for (const example of examples) {
      expect(example).toMatch(new RegExp(`^<%= config\\.bin %> ${name} `));
      // Its files don't exist: anything but a usage error means that the line itself is right.
      const [line = ""] = String(example).split(/ [|<>]/);
      const words = line.split(" ").slice(4);
      const ran = await run(
        name,
        words.map((word) => (word.includes(".") && !/^[\d.]+:\d+$/.test(word) ? at(`none/${word}`) : word)),
      );
      const { inputs, needsServer, needsMore } = rowOf(name);
      const expected = needsMore ? [0, 4, 8] : inputs.length > 0 || needsServer ? [4, 8] : [0];
      expect(expected, `${example}: ${ran.stderr}`).toContain(ran.status);
    }
  });

  test("reports progress as one JSON object a line on stderr", async () => {
    const { progress } = rowOf(name);
    if (!progress) return;
    const ran = await run(name, [...progress(at), "--progress=json", "--json"]);
    expectJson(ran.stdout, name);
    const lines = ran.stderr.trimEnd().split("\n");
    let [phase, last] = ["", 0];
    for (const line of lines) {
      const step = JSON.parse(line) as { phase: string; done: number; total: number; percent: number; unit: string };
      expect(Object.keys(step).sort()).toEqual(["done", "percent", "phase", "total", "unit"]);
      if (step.phase !== phase) [phase, last] = [step.phase, 0];
      expect(step.done, line).toBeGreaterThanOrEqual(last);
      expect(step.done, line).toBeLessThanOrEqual(step.total);
      expect(["bytes", "blocks"]).toContain(step.unit);
      expect(step.percent).toBe(step.total > 0 ? Math.floor((step.done / step.total) * 100) : 100);
      last = step.done;
    }
  });
});

describe.each(eachOf(({ runs }) => runs))("%s %s", (name, _, line) => {
  const status = line.status ?? 0;

  test("prints JSON of its schema on stdout, and nothing but notices on stderr", async () => {
    const argv = line.argv(at);
    const before = pictureOf(at(""));
    const ran = await run(name, [...argv, "--json"]);
    expectJson(ran.stdout, name);
    expectNotices(ran.stderr);
    expect(ran.status).toBe(status);
    if (line.readOnly) expect(pictureOf(at(""))).toEqual(before);
  });

  test("prints its result for people on stdout, and nothing but notices on stderr", async () => {
    const argv = line.argv(at);
    const before = pictureOf(at(""));
    const ran = await run(name, argv);
    expect(ran.stdout).not.toBe("");
    expectPlainLines(ran.stdout);
    expectNotices(ran.stderr);
    expect(ran.status).toBe(status);
    if (line.readOnly) expect(pictureOf(at(""))).toEqual(before);
  });

  test("keeps its status and its silence when the reader goes away", async () => {
    const { fakeTerminal } = await import("../support/command/fake-terminal.ts");
    for (const flags of [[], ["--json"]]) {
      const ran = await run(name, [...line.argv(at), ...flags], fakeTerminal({ closesAfter: 0 }));
      expect([ran.stdout, ran.status]).toEqual(["", status]);
      expectNotices(ran.stderr);
      if (!line.readOnly) return;
    }
  });

  test("colours severity words on a terminal, and nothing under NO_COLOR or --no-color", async () => {
    const argv = line.argv(at);
    const plain = await run(name, [...argv, "--no-color"], { isTerminal: true, columns: 80, env: {} });
    expectPlainLines(plain.stdout + plain.stderr);
    if (!line.readOnly) return;
    const asked = await run(name, argv, { isTerminal: true, columns: 80, env: { NO_COLOR: "1" } });
    expect(asked).toEqual(plain);
    const coloured = await run(name, argv, { isTerminal: true, columns: 80, env: {} });
    const words = /\u001b\[[\d;]*m(error|warning|note|hint)(:?)\u001b\[0m/g;
    expect(coloured.stdout.replace(words, "$1$2")).toBe(plain.stdout);
  });

  test("says nothing but its result under -q", async () => {
    const ran = await run(name, [...line.argv(at), "-q"]);
    expect(ran.stderr).not.toMatch(/^cowtool: note/m);
    expect(ran.status).toBe(status);
  });
});

describe.each(eachOf(({ foretold }) => foretold ?? []))("%s -n, %s", (name, _, line) => {
  test("changes nothing, and reports what the real run then does", async () => {
    const argv = line.argv(at);
    const before = pictureOf(at(""));
    const dry = await run(name, [...argv, "-n", "--json"]);
    expect(pictureOf(at(""))).toEqual(before);
    const real = await run(name, [...argv, "--json"]);
    const [foretold, done] = [expectJson(dry.stdout, name), expectJson(real.stdout, name)];
    expect([foretold["dry_run"], done["dry_run"]]).toEqual([true, false]);
    // The one key that says how things are, and not what is done: a dry run leaves a dirty file dirty.
    if (name === "repair") expect(foretold["state"]).toBe(foretold["state_before"]);
    expect({ ...done, dry_run: true, state: foretold["state"] }).toEqual({ ...foretold, state: foretold["state"] });
  });

  test("needs no confirmation and says that nothing was changed", async () => {
    const argv = line.argv(at).filter((word) => word !== "-y");
    const ran = await run(name, [...argv, "-n"]);
    expect(ran.stdout).toMatch(/nothing (was changed|to repair|done|written)|\(--dry-run\)/);
    expect(ran.stderr).toBe("");
  });
});
