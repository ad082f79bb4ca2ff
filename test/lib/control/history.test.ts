/**
 * Proves what the control socket tells of checkpoints, and does with them, against a running server.
 */
import { afterEach, expect, test } from "vitest";
import { type ControlClient, connect } from "../../../src/lib/control/client.ts";
import { makeChain } from "../../support/nbd/chained-stack.ts";
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
  expect(exports.map(({ checkpoints }) => checkpoints)).toEqual([[MONDAY, { ...TUESDAY, note: null }], [MONDAY], []]);
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
