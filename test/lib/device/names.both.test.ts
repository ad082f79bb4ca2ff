/**
 * Proves that names in a directory are found by how they begin, in large directories, and with and without native calls.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { namesBeginning } from "../../../src/lib/device/sys/names.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const at = scratchDirectory();

test("names are found among thousands of others, and only those", () => {
  const directory = at("many");
  mkdirSync(directory);
  const wanted = ["vm7.cow.cowtool-lock.17-abc", "vm7.cow.cowtool-lock", "vm7.cow.cowtool-lock.ü"];
  for (const name of [...wanted, "x-vm7.cow.cowtool-lock.1", "vm7.cow"]) writeFileSync(join(directory, name), "");
  for (let i = 0; i < 3000; i++) writeFileSync(join(directory, `vm${i}-a-name-of-some-length.cow`), "");
  expect(namesBeginning(directory, "vm7.cow.cowtool-lock").sort()).toEqual(wanted.sort());
  expect(namesBeginning(directory, "nothing")).toEqual([]);
  expect(() => namesBeginning(at("missing"), "x")).toThrow("ENOENT");
});
