/**
 * Proves the log of `serve --log`: JSON lines by level, and text with priorities where stderr is the systemd journal.
 */
import { fstatSync } from "node:fs";
import { expect, test } from "vitest";
import { type LogLevel, openLog } from "../../src/cli/serve-log.ts";

const EVENTS = [
  { id: 1, time_ms: 0, type: "added", name: "vm 1" },
  { id: 2, time_ms: 1000, type: "failed", name: "vm2", file: "/a.cow", message: "is\u001b dirty" },
  { id: 3, time_ms: 2000, type: "notice", severity: "warning", file: "b.cow", message: "is low" },
  { id: 4, time_ms: 3000, type: "synced", name: "vm1" },
] as const;

async function logged(level: LogLevel, env: Record<string, string> = {}): Promise<string[]> {
  let text = "";
  const writeErr = (line: string): void => {
    text += line;
  };
  const log = await openLog(level, { env, writeErr });
  for (const event of EVENTS) log(event);
  return text.split("\n").slice(0, -1);
}

test("is one JSON object a line, from its level up", async () => {
  const lines = (await logged("info")).map((line) => JSON.parse(line) as unknown);
  expect(lines).toEqual([
    { level: "info", time: "1970-01-01T00:00:00.000Z", id: 1, type: "added", name: "vm 1", msg: "added" },
    expect.objectContaining({ level: "error", type: "failed", name: "vm2", file: "/a.cow", msg: "is\u001b dirty" }),
    expect.objectContaining({ level: "warn", type: "notice", severity: "warning", msg: "is low" }),
  ]);
  expect(await logged("error")).toHaveLength(1);
  expect(await logged("debug")).toHaveLength(4);
});

test("is text with priorities for the journal, and only where stderr is that stream", async () => {
  const { dev, ino } = fstatSync(2);
  expect(await logged("debug", { JOURNAL_STREAM: `${dev}:${ino}` })).toEqual([
    "<6>added: vm 1",
    "<3>failed: vm2: /a.cow: is\\x1b dirty",
    "<4>notice: b.cow: is low",
    "<7>synced: vm1",
  ]);
  expect((await logged("info", { JOURNAL_STREAM: `${dev}:${ino + 1}` }))[0]).toMatch(/^\{/);
});
