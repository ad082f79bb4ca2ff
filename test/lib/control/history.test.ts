/**
 * Proves what the control socket tells of checkpoints, and does with them, against a running server.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makeChain } from "../../support/nbd/chained-stack.ts";
import { controlled } from "../../support/nbd/controlled.ts";
import { CMD, RawSession } from "../../support/nbd/raw-session.ts";
import { makeImage } from "../../support/nbd/test-server.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const SIZE = 1 << 20;
const at = scratchDirectory();
const base = makeImage(at("base.img"), Buffer.from("golden"), SIZE);
const MONDAY = { name: "monday", time: "2026-11-23T06:00:00.000Z", note: "before the update" };
const TUESDAY = { name: "tuesday", time: "2026-11-24T06:00:00.000Z" };
const held = controlled(at);

test("a chain is told part by part, with its checkpoints, and which exports are over each part", async () => {
  const control = await held.start();
  const [one, two] = [
    { file: "1.cow", checkpoint: MONDAY, shared: true },
    { file: "2.cow", checkpoint: TUESDAY },
  ];
  const stack = await makeChain(at, "a.stack", base, [{ ...one, shared: false }, two], "3.cow");
  const fork = await makeChain(at, "b.stack", base, [one], "b.cow");
  await control.add({ name: "a", stack });
  await control.add({ name: "b", stack: fork });
  await control.add({ name: "c", stack: base });
  const { exports } = await control.list();
  const uri = (name: string): string => `nbd+unix:///${name}?socket=${held.server?.socket}`;
  const monday = { ...MONDAY, uri: uri("a@monday"), connections: 0 };
  expect(exports.map(({ checkpoints }) => checkpoints)).toEqual([
    [monday, { ...TUESDAY, note: null, uri: uri("a@tuesday"), connections: 0 }],
    [{ ...monday, uri: uri("b@monday") }],
    [],
  ]);
  const { chain } = await control.show("a");
  expect(chain).toMatchObject([
    { role: "base", checkpoint: null, exports: ["b", "c"] },
    { role: "layer", checkpoint: MONDAY, shared: false, exports: ["b"] },
    { role: "layer", checkpoint: { name: "tuesday" }, exports: [] },
    { role: "written", checkpoint: null, exports: [] },
  ]);
  for (const { held_bytes, changed_ms } of chain) {
    expect(held_bytes).toBeGreaterThan(0);
    expect(changed_ms).toBeGreaterThan(0);
  }
  expect((await control.show("b")).chain[1]).toMatchObject({ shared: true, exports: ["a"] });
  const lines = (await control.metrics()).split("\n");
  expect(lines).toContain('cowtool_export_depth{export="a"} 3');
  expect(lines).toContain('cowtool_export_checkpoints{export="a"} 2');
});

test("a checkpoint that clients use counts as its export: it is not removed under them, and closed with it", async () => {
  const control = await held.start();
  const stack = await makeChain(at, "d.stack", base, [{ file: "d1.cow", checkpoint: MONDAY }], "d2.cow");
  await control.add({ name: "d", stack });
  const reader = await RawSession.open(held.server?.socket ?? "", "structured", { name: "d@monday" });
  expect((await reader.read(0, 6)).toString()).toBe("golden");
  const { connections, checkpoints } = await control.show("d");
  expect([connections, checkpoints[0]?.connections]).toEqual([1, 1]);
  expect(await control.stats("d")).toMatchObject({ exports: [{ reads: 1, base_reads: 1, connections: 1 }] });
  await expect(control.remove("d")).rejects.toMatchObject({ code: "locked" });
  await control.close("d");
  await expect(reader.read(0, 6)).rejects.toThrow();
  await expect(RawSession.open(held.server?.socket ?? "", "structured", { name: "d@monday" })).rejects.toThrow(
    /no export/,
  );
  expect((await control.show("d")).checkpoints).toMatchObject([{ name: "monday", uri: "", connections: 0 }]);
  await control.reopen("d");
  const again = await RawSession.open(held.server?.socket ?? "", "structured", { name: "d@monday" });
  const job = await control.drain("d");
  expect(await control.show("d")).toMatchObject({ state: "draining", connections: 1 });
  await again.goodbye();
  expect(await control.waitFor(job.id)).toMatchObject({ state: "done" });
});

test("checkpoints are made under clients, of several exports at one instant; each is told, counted and can be read", async () => {
  const control = await held.start();
  for (const name of ["e", "f"])
    await control.add({ name, stack: await makeChain(at, `${name}.stack`, base, [], `${name}.cow`) });
  await control.add({ name: "plain", stack: base });
  const session = await RawSession.open(held.server?.socket ?? "", "structured", { name: "e" });
  const write = async (text: string): Promise<void> => {
    const payload = Buffer.alloc(4096, text);
    expect(await session.ask({ type: CMD.WRITE, offset: 8192, length: 4096, payload })).toMatchObject({ error: 0 });
  };
  await write("before");
  const made = await control.checkpoint({ names: ["e", "f"], as: "cp", note: "n" });
  await write("after");
  expect(made).toMatchObject({
    checkpoint: "cp",
    exports: [
      { name: "e", frozen: at("e.cow") },
      { name: "f", frozen: at("f.cow") },
    ],
  });
  expect(made.pause_ms).toBeGreaterThan(0);
  const { chain, checkpoints, written } = await control.show("e");
  expect(checkpoints).toMatchObject([{ name: "cp", time: made.time, note: "n" }]);
  expect(chain.map(({ role, checkpoint }) => [role, checkpoint?.name])).toEqual([
    ["base", undefined],
    ["layer", "cp"],
    ["written", undefined],
  ]);
  expect(written).toBe(made.exports[0]?.top);
  const reader = await RawSession.open(held.server?.socket ?? "", "structured", { name: "e@cp" });
  expect([(await reader.read(8192, 6)).toString(), (await session.read(8192, 5)).toString()]).toEqual([
    "before",
    "after",
  ]);
  await Promise.all([reader.goodbye(), session.goodbye()]);
  const lines = (await control.metrics()).split("\n");
  expect(lines).toContain('cowtool_export_checkpoints_total{export="e"} 1');
  expect(lines).toContain(`cowtool_export_checkpoint_pause_seconds{export="f"} ${made.pause_ms / 1000}`);
  const seen: unknown[] = [];
  for await (const { type, name, checkpoint, pause_ms } of control.events({ lastId: 0 })) {
    if (type === "checkpoint") seen.push([name, checkpoint, pause_ms]);
    if (name === "f" && type === "checkpoint") break;
  }
  expect(seen).toEqual(["e", "f"].map((name) => [name, "cp", made.pause_ms]));
  await expect(control.checkpoint({ names: ["e"], as: "cp" })).rejects.toMatchObject({ code: "exists" });
  await expect(control.checkpoint({ names: ["e", "plain"], as: "x" })).rejects.toMatchObject({ code: "unsuitable" });
  await expect(control.checkpoint({ names: ["e", "none"], as: "x" })).rejects.toMatchObject({ code: "not-found" });
  for (const names of ["e", [1]])
    await expect(control.checkpoint({ names: names as unknown as string[], as: "x" })).rejects.toMatchObject({
      code: "usage",
    });
  expect((await control.show("e")).checkpoints).toHaveLength(1);
});

test("back to a checkpoint, and forks over one, beside clients of others; what was made is there after a restart", async () => {
  const state = at("chain-state");
  const control = await held.start({ state });
  await control.add({ name: "g", stack: await makeChain(at, "g.stack", base, [], "g.cow") });
  const open = (name: string): Promise<RawSession> =>
    RawSession.open(held.server?.socket ?? "", "structured", { name });
  const write = async (session: RawSession, text: string): Promise<void> => {
    const payload = Buffer.alloc(4096, text);
    expect(await session.ask({ type: CMD.WRITE, offset: 8192, length: 4096, payload })).toMatchObject({ error: 0 });
  };
  const shows = async (name: string): Promise<string> => {
    const session = await open(name);
    const text = (await session.read(8192, 5)).toString();
    await session.goodbye();
    return text;
  };
  const session = await open("g");
  await write(session, "first");
  await control.checkpoint({ names: ["g"], as: "one" });
  await write(session, "later");
  const fork = await control.fork("g", { as: "h", checkpoint: "one" });
  expect(fork).toMatchObject({ name: "h", checkpoint: "one", state: "open", access: "writable" });
  const other = await open("h");
  await write(other, "other");
  // Of what the parent shows now.
  expect(await control.fork("g", { as: "i" })).toMatchObject({
    checkpoint: "i",
    checkpoints: [{ name: "one" }, { name: "i" }],
  });
  expect(await Promise.all(["g", "g@one", "h", "i"].map(shows))).toEqual(["later", "first", "other", "later"]);
  await expect(control.rollback("g", { checkpoint: "one", discard: true })).rejects.toMatchObject({ code: "locked" });
  await expect(control.rollback("g", { checkpoint: "one", force: true })).rejects.toMatchObject({ code: "usage" });
  await expect(control.fork("g", { as: "h" })).rejects.toMatchObject({ code: "exists" });
  const keep = at("kept.stack");
  expect(await control.rollback("g", { checkpoint: "one", keep, force: true })).toMatchObject({
    checkpoint: "one",
    removed: [],
  });
  await expect(session.read(0, 512)).rejects.toThrow();
  expect((await other.read(8192, 5)).toString()).toBe("other");
  await control.add({ name: "k", stack: `stack:${keep}`, access: "read-only" });
  expect(await Promise.all(["g", "h", "i", "k"].map(shows))).toEqual(["first", "other", "later", "later"]);
  await control.drop("g", "one");
  expect((await control.show("g")).checkpoints).toEqual([]);
  expect((await control.show("h")).checkpoints).toMatchObject([{ name: "one" }]);
  await control.grow("i", 2 * SIZE);
  await other.goodbye();
  await held.server?.stop();
  const again = await held.start({ state });
  expect((await again.list()).exports.map((each) => [each.name, each.state, each.virtual_size])).toEqual([
    ["g", "open", SIZE],
    ["h", "open", SIZE],
    ["i", "open", 2 * SIZE],
    ["k", "open", SIZE],
  ]);
  expect(await Promise.all(["g", "h", "i", "k"].map(shows))).toEqual(["first", "other", "later", "later"]);
});

test("squash and flatten are jobs under clients; the disk shows the same, and the chain is short", async () => {
  const control = await held.start();
  await control.add({ name: "l", stack: await makeChain(at, "l.stack", base, [], "l.cow") });
  const session = await RawSession.open(held.server?.socket ?? "", "structured", { name: "l" });
  for (const [i, as] of ["one", "two", "three"].entries()) {
    const payload = Buffer.alloc(4096, as);
    await session.ask({ type: CMD.WRITE, offset: 4096 * (i + 1), length: 4096, payload });
    await control.checkpoint({ names: ["l"], as });
  }
  const before = (await session.read(0, 5 * 4096)).toString();
  await control.drop("l", "one");
  const squash = await control.squash("l");
  expect(squash).toMatchObject({ kind: "squash", state: "running" });
  expect(await control.waitFor(squash.id)).toMatchObject({ state: "done", error: null });
  const { layers, checkpoints } = await control.show("l");
  expect([layers.length, checkpoints.map(({ name }) => name)]).toEqual([3, ["two", "three"]]);
  const flatten = await control.flatten("l", at("l-flat.img"));
  expect(await control.waitFor(flatten.id)).toMatchObject({ state: "done", error: null });
  expect(await control.show("l")).toMatchObject({
    base: expect.stringMatching(/l-flat\.img$/),
    layers: { length: 1 },
    checkpoints: [],
  });
  expect((await session.read(0, 5 * 4096)).toString()).toBe(before);
  await session.goodbye();
});

test("a name with @ is refused; one that is kept from before is in the list as failed, and can be removed", async () => {
  const state = at("old-state");
  mkdirSync(state);
  const kept = { version: 1, exports: [{ name: "vm@host", stack: base, state: "open" }] };
  writeFileSync(join(state, "exports.json"), JSON.stringify(kept));
  const control = await held.start({ state });
  const [old] = (await control.list()).exports;
  expect(old).toMatchObject({ name: "vm@host", state: "failed", error: { code: "usage" } });
  expect(old?.error?.message).toMatch(/NAME@CHECKPOINT/);
  await expect(control.reopen("vm@host")).rejects.toMatchObject({ code: "usage" });
  await expect(control.add({ name: "x@y", stack: base })).rejects.toMatchObject({ code: "usage" });
  await control.remove("vm@host");
  expect(await control.list()).toEqual({ exports: [] });
});
