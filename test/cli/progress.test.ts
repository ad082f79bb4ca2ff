/** Proves what each progress mode writes, and where it writes nothing. */
import { describe, expect, test } from "vitest";
import { makeProgressView, type ProgressMode } from "../../src/cli/progress.ts";
import type { Progress } from "../../src/lib/context.ts";
import { type FakeTerminalOptions, fakeTerminal } from "../support/command/fake-terminal.ts";

const MIB = 1024 * 1024;

function at(done: number, phase = "merging"): Progress {
  return { phase, done: done * MIB, total: 4 * MIB, unit: "bytes" };
}

function shown(mode: ProgressMode, options: FakeTerminalOptions, quiet = false): string {
  const terminal = fakeTerminal(options);
  const view = makeProgressView(mode, terminal, quiet);
  for (const done of [0, 1, 2, 4, 4]) view.onProgress(at(done));
  view.onProgress(at(1, "checking"));
  view.stop();
  expect(terminal.out()).toBe("");
  return terminal.err();
}

describe("progress", () => {
  test("json is one object a line, at each phase's start and end at least", () => {
    const lines = shown("json", {})
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as unknown);
    expect(lines).toEqual([
      { phase: "merging", done: 0, total: 4 * MIB, unit: "bytes", percent: 0 },
      { phase: "merging", done: 4 * MIB, total: 4 * MIB, unit: "bytes", percent: 100 },
      { phase: "checking", done: MIB, total: 4 * MIB, unit: "bytes", percent: 25 },
    ]);
  });

  test("plain is a line now and then", () => {
    const lines = shown("plain", {}).trimEnd().split("\n");
    expect(lines[0]).toBe("cowtool: merging: 0%, 0 B of 4 MiB");
    expect(lines[1]).toMatch(/^cowtool: merging: 100%, 4 MiB of 4 MiB, .*\/s, 0 s left$/);
  });

  test("auto and none are silent where nobody watches, a bar for a short job too", () => {
    expect(shown("none", { isTerminal: true })).toBe("");
    expect(shown("auto", {})).toBe("");
    expect(shown("auto", { isTerminal: true })).toBe("");
    expect(shown("auto", { isTerminal: true, env: { TERM: "dumb" } })).toBe("");
  });

  test("a bar that is no use becomes lines", () => {
    expect(shown("bar", {})).toMatch(/^cowtool: merging: 0%/);
  });
});
