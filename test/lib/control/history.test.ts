/**
 * Proves what the control socket tells of checkpoints, and does with them, against a running server.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { type ControlClient, connect } from "../../../src/lib/control/client.ts";
import { makeChain } from "../../support/nbd/chained-stack.ts";
import { RawSession } from "../../support/nbd/raw-session.ts";
import { makeImage, startServing, type TestServer } from "../../support/nbd/test-server.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const SIZE = 1 << 20;
const at = scratchDirectory();
const base = makeImage(at("base.img"), Buffer.from("golden"), SIZE);
const MONDAY = { name: "monday", time: "2026-11-23T06:00:00.000Z", note: "before the update" };
const TUESDAY = { name: "tuesday", time: "2026-11-24T06:00:00.000Z" };
let server: TestServer | undefined;
let count = 0;

afterEach(async () => {
  await server?.stop().catch(() => undefined);
  server = undefined;
});

async function startControlled(request: Parameters<typeof startServing>[2] = {}): Promise<ControlClient> {
  const control = at(`control${count++}`);
  server = await startServing(at, [], { control, ...request });
  return connect({ server: control });
}

test("a chain is told part by part, with its checkpoints, and which exports are over each part", async () => {
  const control = await startControlled();
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
  const uri = (name: string): string => `nbd+unix:///${name}?socket=${server?.socket}`;
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
  const control = await startControlled();
  const stack = await makeChain(at, "d.stack", base, [{ file: "d1.cow", checkpoint: MONDAY }], "d2.cow");
  await control.add({ name: "d", stack });
  const reader = await RawSession.open(server?.socket ?? "", "structured", { name: "d@monday" });
  expect((await reader.read(0, 6)).toString()).toBe("golden");
  const { connections, checkpoints } = await control.show("d");
  expect([connections, checkpoints[0]?.connections]).toEqual([1, 1]);
  expect(await control.stats("d")).toMatchObject({ exports: [{ reads: 1, base_reads: 1, connections: 1 }] });
  await expect(control.remove("d")).rejects.toMatchObject({ code: "locked" });
  await control.close("d");
  await expect(reader.read(0, 6)).rejects.toThrow();
  await expect(RawSession.open(server?.socket ?? "", "structured", { name: "d@monday" })).rejects.toThrow(/no export/);
  expect((await control.show("d")).checkpoints).toMatchObject([{ name: "monday", uri: "", connections: 0 }]);
  await control.reopen("d");
  const again = await RawSession.open(server?.socket ?? "", "structured", { name: "d@monday" });
  const job = await control.drain("d");
  expect(await control.show("d")).toMatchObject({ state: "draining", connections: 1 });
  await again.goodbye();
  expect(await control.waitFor(job.id)).toMatchObject({ state: "done" });
});

test("a name with @ is refused; one that is kept from before is in the list as failed, and can be removed", async () => {
  const state = at("old-state");
  mkdirSync(state);
  const kept = { version: 1, exports: [{ name: "vm@host", stack: base, state: "open" }] };
  writeFileSync(join(state, "exports.json"), JSON.stringify(kept));
  const control = await startControlled({ state });
  const [old] = (await control.list()).exports;
  expect(old).toMatchObject({ name: "vm@host", state: "failed", error: { code: "usage" } });
  expect(old?.error?.message).toMatch(/NAME@CHECKPOINT/);
  await expect(control.reopen("vm@host")).rejects.toMatchObject({ code: "usage" });
  await expect(control.add({ name: "x@y", stack: base })).rejects.toMatchObject({ code: "usage" });
  await control.remove("vm@host");
  expect(await control.list()).toEqual({ exports: [] });
});
