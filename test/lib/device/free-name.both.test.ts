/**
 * Proves that a kill while a new file is given its name leaves a file that can be written: with native calls it has one
 * name at every moment, without them its temporary name goes when it is opened. Other second names stay, and are refused.
 */
import fs, { linkSync, lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { libc } from "../../../src/lib/device/sys/libc.ts";
import { temporaryName } from "../../../src/lib/device/temporary-name.ts";
import { nodeStorage } from "../../../src/lib/index.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const scratch = scratchDirectory();
const { rmSync } = fs;
let count = 0;
let dir = "";
let top = "";

beforeEach(() => {
  dir = scratch(`${count++}`);
  top = join(dir, "vm-z.cow");
  mkdirSync(dir);
});
afterEach(() => kill(false));

/** From now on the process is "killed" where it would remove a name. */
function kill(isKilled = true): void {
  fs.rmSync = isKilled
    ? () => {
        throw new Error("killed");
      }
    : rmSync;
  syncBuiltinESMExports();
}

function openForWriting(file = top): void {
  nodeStorage.open(file, { writable: true, own: true }).close();
}

test("killed before its temporary name is removed, a new file has one name, or one after it is opened", () => {
  const pending = nodeStorage.create(top, { own: "" });
  kill();
  if (libc()) pending.commit({ replace: false });
  else expect(() => pending.commit({ replace: false })).toThrow("killed");
  kill(false);
  expect(readdirSync(dir)).toHaveLength(libc() ? 1 : 2);
  openForWriting();
  expect(readdirSync(dir)).toEqual(["vm-z.cow"]);
});

test("a file of ours that is renamed has one name or the other with native calls", () => {
  const from = join(dir, "out.cowtool-partial");
  writeFileSync(from, "content");
  kill();
  if (libc()) nodeStorage.rename(from, top, { replace: false });
  else expect(() => nodeStorage.rename(from, top, { replace: false })).toThrow("killed");
  expect(readdirSync(dir)).toHaveLength(libc() ? 1 : 2);
  expect(readFileSync(top, "utf8")).toBe("content");
});

test("what a killed process left with both names, of this boot or another, has one after it is opened", () => {
  for (const origin of [undefined, "0123456789ab"]) {
    rmSync(top, { force: true });
    writeFileSync(top, "content");
    const temporary = temporaryName(top);
    linkSync(top, origin ? temporary.replace(/-[0-9a-f]{12}-/, `-${origin}-`) : temporary);
    expect(readdirSync(dir)).toHaveLength(2);
    openForWriting();
    expect(readdirSync(dir)).toEqual(["vm-z.cow"]);
    expect(readFileSync(top, "utf8")).toBe("content");
  }
});

test.each<[string, () => readonly string[]]>([
  ["a name of the user's", () => [join(dir, "kept.cow")]],
  ["one that is almost a temporary name", () => [join(dir, ".vm-z.cow.17-9.tmp")]],
  ["the temporary name of another file", () => [temporaryName(join(dir, "vm-y.cow"))]],
  ["a temporary name in another directory", () => [temporaryName(join(scratch("other"), "vm-z.cow"))]],
  ["its temporary name and a third", () => [temporaryName(top), join(dir, "kept.cow")]],
])("with %s a file is refused, and keeps its names", (_, namesOf) => {
  mkdirSync(scratch("other"), { recursive: true });
  writeFileSync(top, "content");
  const names = namesOf();
  for (const name of names) linkSync(top, name);
  expect(() => openForWriting()).toThrow(`has ${names.length + 1} names (hard links)`);
  for (const name of names) expect(lstatSync(name).nlink).toBe(names.length + 1);
});

test("an unfinished file beside it, with a temporary name but not the same file, stays", () => {
  writeFileSync(top, "content");
  writeFileSync(temporaryName(top), "unfinished");
  linkSync(top, temporaryName(top));
  openForWriting();
  expect(readdirSync(dir).map((name) => readFileSync(join(dir, name), "utf8"))).toEqual(["unfinished", "content"]);
});

test("a name that is taken stays what it was", () => {
  writeFileSync(top, "precious");
  const pending = nodeStorage.create(top);
  expect(() => pending.commit({ replace: false })).toThrow(expect.objectContaining({ code: "exists" }));
  pending.abandon();
  const from = join(dir, "from");
  writeFileSync(from, "new");
  expect(() => nodeStorage.rename(from, top, { replace: false })).toThrow(expect.objectContaining({ code: "exists" }));
  expect(readdirSync(dir)).toEqual(["from", "vm-z.cow"]);
  expect(readFileSync(top, "utf8")).toBe("precious");
});
