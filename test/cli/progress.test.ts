/** Proves what each progress mode writes, and where it writes nothing. */
import { afterEach, describe, expect, test, vi } from "vitest";
import { makeProgressView, type ProgressMode } from "../../src/cli/progress.ts";
import type { Progress } from "../../src/lib/context.ts";
import { type FakeTerminal, type FakeTerminalOptions, fakeTerminal } from "../support/command/fake-terminal.ts";

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
    expect(lines[1]).toMatch(/^cowtool: merging: 100%, 4 MiB of 4 MiB, 0 s left, .*\/s$/);
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

describe("a bar", () => {
  afterEach(() => void vi.useRealTimers());

  /** What is on the screen's lines after text with the few control sequences that a bar uses, in a terminal that wraps. */
  function screen(text: string, columns: number): string[] {
    const rows = [""];
    for (const [piece] of text.matchAll(/\u001b\[\d*[AJ]|\r|\n|[\s\S]/g)) {
      const last = rows.at(-1) ?? "";
      if (/A$/.test(piece) && piece.length > 1) rows.splice(rows.length - Number(piece.slice(2, -1)));
      else if (piece === "\r") rows.push(`${rows.pop()}\r`);
      else if (/J$/.test(piece) && piece.length > 1) rows.splice(rows.length - 1, 1, "");
      else if (piece === "\n") rows.push("");
      else if (last.length >= columns) rows.push(piece);
      else rows.splice(rows.length - 1, 1, last + piece);
    }
    return rows;
  }

  async function drawn(
    columns: number,
    whileItRuns: (terminal: FakeTerminal) => void = () => {},
  ): Promise<FakeTerminal> {
    vi.useFakeTimers({ toFake: ["performance", "Date", "setTimeout", "clearTimeout"] });
    const options = { isTerminal: true, columns };
    const terminal = fakeTerminal(options);
    const view = makeProgressView("bar", terminal, false);
    for (let done = 0; done <= 40; done++) {
      vi.advanceTimersByTime(101);
      view.onProgress({ phase: "comparing", done: done * MIB * 1000, total: 40 * MIB * 1000, unit: "bytes" });
      // The bar's package is loaded once there is something to draw.
      if (done === 6) await vi.dynamicImportSettled();
      if (done === 20) whileItRuns(Object.assign(terminal, { resize: (to: number) => (options.columns = to) }));
    }
    view.stop();
    return terminal;
  }

  test.each([20, 40, 60, 80, 120])("fits %i columns, with room for ^C, and goes away", async (columns) => {
    const text = (await drawn(columns)).err();
    const lines = text.split(/\r\u001b\[J/).filter((line) => line !== "");
    expect(lines.length).toBeGreaterThan(20);
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(columns - 3);
    expect(lines.at(-1)).toContain("100%");
    expect(lines.at(20)).toMatch(columns < 60 ? /\d%/ : /^comparing \[=+-+\] \d+% \| .* GiB of 39\.1 GiB, \d+ s left/);
    expect(screen(text, columns)).toEqual([""]);
  });

  test("leaves nothing behind where the terminal becomes narrower, or a ^C was typed", async () => {
    const isResized = await drawn(120, (terminal) =>
      (terminal as FakeTerminal & { resize(to: number): void }).resize(50),
    );
    expect(isResized.err()).toContain("\u001b[1A\r\u001b[J");
    const isTyped = await drawn(60, (terminal) => terminal.writeErr("^C"));
    expect(screen(isTyped.err(), 60)).toEqual([""]);
  });
});
