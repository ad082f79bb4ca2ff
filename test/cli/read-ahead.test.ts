/** Proves that reading ahead never fails and never waits, whatever the names are of, and tells their sizes. */
import { execFileSync } from "node:child_process";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { ReadAhead } from "../../src/cli/read-ahead.ts";
import { scratchDirectory } from "../support/scratch.ts";

const at = scratchDirectory();

test("names of files, of nothing, of a pipe, a folder, a link to itself, a URI and a wrong setting", async () => {
  writeFileSync(at("file"), Buffer.alloc(100_000, 1));
  execFileSync("mkfifo", [at("pipe")]);
  mkdirSync(at("folder"));
  symlinkSync("loop", at("loop"));
  const names = ["file", "nothing", "pipe", "folder", "loop"].map(at);
  const files = [...names, "nbd://127.0.0.1:1/x", `qcow2:no-such=1;${at("file")}`, ""];
  const ahead = new ReadAhead(files);
  const sizes = await ahead.sizes();
  expect(sizes).toHaveLength(files.length);
  expect(sizes[0]).toBeGreaterThanOrEqual(100_000);
  expect(sizes.every((size) => size > 0)).toBe(true);
  for (const index of files.keys()) await ahead.reach(index);
});
