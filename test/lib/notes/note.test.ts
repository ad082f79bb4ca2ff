/** Proves that no output may have the name of a file of ours, of whatever kind, and that a note replaces nothing but a note. */
import { describe, expect, test } from "vitest";
import { OWN, refuseOwnName } from "../../../src/lib/device/own-file.ts";
import { MemoryStorage } from "../../../src/lib/index.ts";
import { notePath, writeNote } from "../../../src/lib/notes/note.ts";

describe("names of our own", () => {
  test.each(Object.entries(OWN))("no output is called like a %s", (_, { suffix }) => {
    for (const path of [`vm.cow${suffix}`, `a.dir/vm.cow.cowtool-unflushed${suffix}`])
      expect(() => refuseOwnName(path)).toThrow(`no output may end in ${suffix}`);
  });

  test("nor like a reader's lock; anything else is free", () => {
    expect(() => refuseOwnName("d/vm.cow.cowtool-lock.123-0abc")).toThrow(
      "no output may end in .cowtool-lock.123-0abc",
    );
    for (const path of [
      "vm.cow",
      "vm.cow.cowtool-live.old",
      "d.cowtool-lock/vm.cow",
      "vm.cowtool-merge.cow",
      "cowtool-base",
    ])
      expect(() => refuseOwnName(path)).not.toThrow();
  });
});

test.each([
  ["baseRecord", "cowtool_base"],
  ["mergeJournal", "cowtool_merge"],
  ["partialNote", "cowtool_convert"],
] as const)("a %s begins as its kind says, and replaces an older one and nothing else", (name, key) => {
  const storage = new MemoryStorage();
  const path = notePath(storage, OWN[name], "vm.cow");
  const text = (): string => Buffer.from(storage.content(path)?.toBytes() ?? []).toString();
  for (const value of [1, 2]) {
    writeNote(storage, OWN[name], path, { [key]: value });
    expect(text()).toBe(`{"${key}":${value}}\n`);
    expect(text().startsWith(OWN[name].beginning)).toBe(true);
  }
  storage.put(path, Buffer.from("precious"));
  expect(() => writeNote(storage, OWN[name], path, { [key]: 3 })).toThrow("not a file that cowtool made");
  expect(text()).toBe("precious");
});
