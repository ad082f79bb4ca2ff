/**
 * Proves that a list of exports stays of a bearable size, however many checkpoints they have, and that each can be asked for.
 */
import { expect, test } from "vitest";
import type { LiveExport } from "../../../src/lib/nbd/server/live-export.ts";
import { Offers } from "../../../src/lib/nbd/server/offers.ts";

const CHECKPOINTS = Array.from({ length: 1000 }, (_, level) => ({
  name: `checkpoint-${level}`.padEnd(90, "-"),
  level,
}));

/** What a list needs of an export with a thousand checkpoints. */
function entry(name: string): LiveExport {
  const stack = { readable: CHECKPOINTS, name: "stack:vm.stack" };
  const served = { facts: { name, description: "" }, stack };
  const views = { find: (_: unknown, checkpoint: string) => ({ facts: { name: `${name}@${checkpoint}` } }) };
  return { name, served, views, state: "open", isPending: false } as unknown as LiveExport;
}

test("all exports are listed, and as many of their checkpoints as 2 MiB have; the others can be asked for", () => {
  const names = Array.from({ length: 100 }, (_, i) => `vm${i}`);
  const offers = new Offers(new Map(names.map((name) => [name, entry(name)])));
  const listed = [...offers.listed()];
  expect(listed.slice(0, 100).map(({ name }) => name)).toEqual(names);
  const bytes = listed.reduce((sum, { name, description }) => sum + name.length + description.length, 0);
  expect(bytes).toBeGreaterThan(1 << 20);
  expect(bytes).toBeLessThan(2 << 20);
  expect(offers.find("vm99@last")?.facts.name).toBe("vm99@last");
});

test("a name that is too long for the protocol is not listed", () => {
  const name = "n".repeat(4090);
  expect([...new Offers(new Map([[name, entry(name)]])).listed()].map((each) => each.name)).toEqual([name]);
});
