/**
 * Proves the way of each verb that changes an export's history, from the client to the history and back: what is asked, what is
 * answered, jobs, events, metrics.
 */
import { expect, test } from "vitest";
import { CowError } from "../../../src/lib/errors.ts";
import { makeImage } from "../../support/nbd/test-server.ts";
import { type ToldHistory, tellHistory } from "../../support/nbd/told-history.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const at = scratchDirectory();
const base = makeImage(at("base.img"), Buffer.from("golden"), 1 << 20);
let count = 0;

/** A control side whose history only notes what it is asked for. */
async function told(): Promise<ToldHistory> {
  const history = await tellHistory(at(`told${count++}`));
  for (const name of ["x", "y"]) await history.exports.add({ name, stack: base });
  return history;
}

test("every verb reaches the history as it was asked, and its answer comes back", async () => {
  const { client, told: asked } = await told();
  expect(await client.checkpoint({ names: ["x", "y"], as: "cp", note: "n" })).toEqual({
    checkpoint: "cp",
    time: "2026-11-29T12:00:00.000Z",
    pause_ms: 1.25,
    exports: [
      { name: "x", frozen: "x-1.cow", top: "x-2.cow" },
      { name: "y", frozen: "y-1.cow", top: "y-2.cow" },
    ],
  });
  const back = { checkpoint: "cp", keep: "/k.stack", discard: true, force: true };
  expect(await client.rollback("x", back)).toMatchObject({ name: "x", checkpoint: "cp", removed: ["x-2.cow"] });
  const fork = { as: "z", checkpoint: "cp", cowfile: "/z.cow", stack_file: "/z.stack" };
  expect(await client.fork("x", fork)).toMatchObject({ name: "x", uri: "nbd://x", checkpoint: "cp" });
  await client.drop("x", "a:+Ü.b");
  expect(await client.grow("x", 1 << 30, { force: true })).toMatchObject({ name: "x" });
  expect(asked).toEqual([
    ["checkpoint", ["x", "y"], { as: "cp", note: "n" }],
    ["rollback", "x", back],
    ["fork", "x", { as: "z", checkpoint: "cp", cowfile: "/z.cow", stackFile: "/z.stack" }],
    ["drop", "x", "a:+Ü.b"],
    ["grow", "x", 1 << 30, { force: true }],
  ]);
  const lines = (await client.metrics()).split("\n");
  expect(lines).toContain('cowtool_export_checkpoints_total{export="x"} 1');
  expect(lines).toContain('cowtool_export_checkpoint_pause_seconds{export="y"} 0.00125');
  const seen: unknown[] = [];
  for await (const { type, name, checkpoint, pause_ms, fork: child } of client.events({ lastId: 0 })) {
    seen.push([type, name, checkpoint, pause_ms ?? child]);
    if (type === "grown") break;
  }
  expect(seen).toEqual([
    ["checkpoint", "x", "cp", 1.25],
    ["checkpoint", "y", "cp", 1.25],
    ["rollback", "x", "cp", undefined],
    ["fork", "x", "cp", "z"],
    ["dropped", "x", "a:+Ü.b", undefined],
    ["grown", "x", undefined, undefined],
  ]);
});

test("squash and flatten are jobs: one at a time for an export, with progress, cancelled or waited for", async () => {
  const history = await told();
  const { client } = history;
  const job = await client.squash("x", { from: "a", to: "b" });
  expect(job).toMatchObject({ kind: "squash", name: "x", state: "running" });
  await expect(client.flatten("x", "/new.img")).rejects.toMatchObject({ code: "locked" });
  expect(await client.job(job.id)).toMatchObject({
    progress: { phase: "joining", done: 1024, total: 4096, unit: "bytes" },
  });
  history.finish();
  expect(await client.waitFor(job.id)).toMatchObject({ state: "done", error: null });
  const second = await client.flatten("x", "/new.img");
  expect(await client.cancel(second.id)).toMatchObject({ state: "cancelled", error: { code: "interrupted" } });
  const third = await client.squash("x");
  history.finish(new CowError("no-space", "the file system is full"));
  expect(await client.waitFor(third.id)).toMatchObject({ state: "failed", error: { code: "no-space" } });
  const seen: string[] = [];
  for await (const { type, job: of } of client.events({ lastId: 0 })) {
    // How often progress is told depends on how fast the machine is.
    if (type !== "job-progress") seen.push(`${type} ${of?.id ?? ""}`);
    if (type === "job-ended" && of?.id === third.id) break;
  }
  expect(seen.slice(0, 3)).toEqual(["job-started 1", "squashed ", "job-ended 1"]);
  expect(seen).not.toContain("flattened ");
});

test("what is wrong with a request is said before the history is asked", async () => {
  const { client, told: asked } = await told();
  const refused = [
    client.rollback("x", { checkpoint: "cp", keep: "k.stack" }),
    client.fork("x", { as: "z", cowfile: "z.cow" }),
    client.fork("x", { as: "z", stack_file: "z.stack" }),
    client.flatten("x", "new.img"),
    client.checkpoint({ names: "x" as unknown as string[], as: "cp" }),
    client.grow("x", -1),
  ];
  for (const each of refused) await expect(each).rejects.toMatchObject({ code: "usage" });
  for (const each of [client.squash("none"), client.flatten("none", "/n")])
    await expect(each).rejects.toMatchObject({ code: "not-found" });
  expect(asked).toEqual([]);
});
