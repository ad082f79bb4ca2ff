/**
 * Proves what info, check, repair and verify-fingerprint do with several files: a row and a JSON object each, a bad one
 * among them, the worst exit status, and the same answers as for each file alone.
 */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { fakeTerminal } from "../support/command/fake-terminal.ts";
import { pictureOf, useImages } from "../support/command/files.ts";
import { expectErrorJson, expectJson, type Ran, run } from "../support/command/harness.ts";

const at = useImages();

const FILES = ["vm.cow", "dirty.cow", "random.img", "lost.cow", "none.cow"] as const;

/** The four commands with their other arguments. */
const LINES = [
  ["check", [], [0, 1, 4, 4, 8]],
  ["repair", ["-f"], [0, 0, 4, 4, 8]],
  ["repair", ["-n", "-f"], [0, 1, 4, 4, 8]],
  ["verify-fingerprint", ["base.img"], [0, 0, 4, 0, 8]],
] as const;

interface Several {
  readonly files: readonly Readonly<Record<string, unknown>>[];
  readonly summary: { readonly exit_codes: unknown; readonly files: number; readonly examined: number };
}

const argvOf = (more: readonly string[]): string[] => more.map((word) => (word.startsWith("-") ? word : at(word)));

/** What differs between two runs on the same files. */
const stable = (text: string): string => text.replace(/"recorded_at":"[^"]*"/g, "");

describe.each(LINES)("%s %j of several files", (name, more, statuses) => {
  const several = (...flags: readonly string[]): Promise<Ran> =>
    run(name, [...argvOf(more), ...FILES.map(at), ...flags], { columns: 140 });

  test("is a table of a row each, a line that sums up, and the worst exit status", async () => {
    const ran = await several();
    expect(ran.status).toBe(8);
    const [header = "", ...lines] = ran.stdout.trimEnd().split("\n");
    expect(header).toMatch(/^FILE +RESULT /);
    expect(lines.at(-1)).toMatch(/^5 files: .*1 failed$/);
    for (const file of FILES) expect(ran.stdout).toContain(file);
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(140);
    const errors = ran.stderr.split("\n").filter((line) => line.startsWith("cowtool: error: "));
    expect(errors.map((line) => line.includes("none.cow") || line.includes("random.img"))).toEqual([true, true]);
  });

  test("says of each file in JSON what it says of it alone", async () => {
    const alone: Ran[] = [];
    for (const file of FILES) alone.push(await run(name, [...argvOf(more), at(file), "--json"]));
    expect(alone.map(({ status }) => status)).toEqual(statuses);
    // A repair has changed them.
    if (name === "repair" && !more.includes("-n" as never)) return;
    const ran = await several("--json");
    const { files, summary } = expectJson(ran.stdout, name) as unknown as Several;
    for (const [i, { file, exit_code, ...rest }] of files.entries()) {
      expect([file, exit_code]).toEqual([at(FILES[i] ?? ""), statuses[i]]);
      const { file: _, ...expected } = JSON.parse(alone[i]?.stdout ?? "") as Record<string, unknown>;
      expect(stable(JSON.stringify(rest))).toBe(stable(JSON.stringify(expected)));
    }
    expect([ran.status, summary.files, summary.examined]).toEqual([8, 5, 5]);
    const lines = (await several("--json=lines")).stdout.trimEnd().split("\n");
    expect(lines.map((line) => stable(JSON.stringify(expectJson(line, name))))).toEqual(
      files.map((file) => stable(JSON.stringify(file))),
    );
  });
});

describe("several files", () => {
  test("--no-keep-going stops behind the first that is not well; the default, by its name too, goes on", async () => {
    const argv = [at("vm.cow"), at("dirty.cow"), at("lost.cow")];
    const stopped = await run("check", [...argv, "--no-keep-going", "--json"]);
    expect(stopped.status).toBe(1);
    const { files, summary } = expectJson(stopped.stdout, "check") as unknown as Several;
    expect(files.map(({ exit_code }) => exit_code)).toEqual([0, 1]);
    expect(summary).toEqual({
      files: 3,
      examined: 2,
      exit_codes: [
        { exit_code: 0, files: 1 },
        { exit_code: 1, files: 1 },
      ],
      exit_code: 1,
    });
    expect((await run("check", [...argv, "--no-keep-going"])).stdout).toMatch(
      /: 1 sound, 1 repairable, 1 not examined$/m,
    );
    expect((await run("check", [...argv, "--keep-going"])).status).toBe(4);
  });

  test("a base that cannot be had is one error, and a wrong one has a word of its own", async () => {
    const argv = [at("vm.cow"), at("sibling.cow"), at("top.cow")];
    const error = expectErrorJson(await run("check", [...argv, "--rdofile", at("none.img"), "--json"]), 8);
    expect(error.details["file"]).toBe(at("none.img"));
    const ran = await run("check", [...argv, "--rdofile", at("base.img")], { columns: 160 });
    expect([ran.status, ran.stdout]).toEqual([
      4,
      expect.stringMatching(/top\.cow +wrong base +clean +base-fingerprint/),
    ]);
    expect(ran.stdout).toMatch(/^3 files: 2 sound, 1 wrong base$/m);
  });

  test("-q keeps what was asked for: the rows of info", async () => {
    const ran = await run("info", [at("vm.cow"), at("sibling.cow"), "-q"], { columns: 160 });
    expect([ran.status, ran.stderr, ran.stdout.split("\n").length]).toEqual([0, "", 4]);
    expect(ran.stdout).toMatch(/sibling\.cow +read +cowfile/);
  });

  test("-q says nothing of files that are well", async () => {
    const sound = [at("vm.cow"), at("sibling.cow")];
    for (const argv of [sound, sound.slice(1)])
      expect(await run("check", [...argv, "-q"])).toEqual({ stdout: "", stderr: "", status: 0 });
    expect((await run("check", [...sound, at("dirty.cow"), "-q"], { columns: 160 })).stdout).toBe(
      `FILE${" ".repeat(at("dirty.cow").length - 2)}RESULT      STATE  PROBLEMS\n${at("dirty.cow")}  repairable  dirty  dirty, unmarked-data\n`,
    );
  });

  test("a reader that goes away leaves no file unrepaired", async () => {
    const files = [at("dirty.cow"), at("vm.cow"), at("lost.cow")];
    const ran = await run("repair", [...files, "-f", "--json"], fakeTerminal({ closesAfter: 0 }));
    expect([ran.stdout, ran.status]).toEqual(["", 4]);
    expect(readFileSync(at("dirty.cow"))[6]).toBe(0);
    expect((await run("repair", [at("dirty.cow"), "-f", "-n"])).status).toBe(0);
  });

  test("a signal stops between two files, and the document stays whole", async () => {
    const terminal = fakeTerminal();
    const writeOut = (text: string): boolean | Promise<boolean> => {
      if (text.includes("vm.cow")) process.emit("SIGTERM", "SIGTERM");
      return terminal.writeOut(text);
    };
    const files = [at("vm.cow"), at("dirty.cow"), at("sibling.cow")];
    const ran = await run("check", [...files, "--json=lines"], { ...terminal, writeOut });
    const lines = ran.stdout.trimEnd().split("\n");
    expect(ran.status).toBe(143);
    expect(lines.map((line) => expectJson(line, "check")["exit_code"])).toEqual([0, 143]);
  });

  test("the progress is one, over all of them", async () => {
    const files = ["vm.cow", "dirty.cow", "sibling.cow"].map(at);
    const ran = await run("check", [...files, "--progress=json", "--json"]);
    const steps = ran.stderr
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, number>);
    expect(new Set(steps.map(({ phase, total }) => `${phase} ${total}`)).size).toBe(1);
    const done = steps.map((step) => step["done"] ?? 0);
    expect(done).toEqual([...done].sort((a, b) => a - b));
    expect(steps.at(-1)?.["percent"]).toBe(100);
  });

  test("info shows them side by side, and changes nothing", async () => {
    const files = ["vm.cow", "dirty.cow", "gzip.pack", "hostile.cow"].map(at);
    const before = pictureOf(at(""));
    const ran = await run("info", files, { columns: 200 });
    expect(pictureOf(at(""))).toEqual(before);
    expect(ran.stdout).toMatch(/dirty\.cow +read +cowfile +dirty +300 KiB /);
    expect(ran.stdout).toMatch(/gzip\.pack +read +cowfile +clean, packed /);
    expect(ran.status).toBe(0);
    const { files: facts } = expectJson((await run("info", [...files, "--json"])).stdout, "info") as unknown as Several;
    expect(facts.map(({ format }) => format)).toEqual(["cowfile", "cowfile", "cowfile", "cowfile"]);
    expect((await run("info", [...files, "--map"])).status).toBe(16);
  });
});
