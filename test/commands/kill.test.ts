/**
 * Proves that a real process of cowtool may be killed (SIGKILL) at any time: no half-written file has a final name, and
 * the same command, run again, completes the job byte for byte. What a power cut does is proved on a storage that
 * forgets, elsewhere; here it is the whole program, as it is installed.
 */
import { existsSync, readdirSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { run } from "../support/command/harness.ts";
import { LONG_JOBS, type LongJob, LongJobBench } from "../support/command/long-jobs.ts";
import { pause, start } from "../support/command/real-process.ts";
import { random } from "../support/random.ts";
import { runs, SEED } from "../support/sample.ts";

const ROUNDS: Readonly<Record<string, number>> = {
  "merge in place": 4,
  "merge --undo": 4,
};
/** The whole program, in this process, without system calls of its own. */
const COMPLETED_BY = [{}, undefined, { COWTOOL_NO_FFI: "1" }] as const;
const SIZES = { mebibytes: 16, dirtyMebibytes: 40 };
/** A disk that others keep busy makes each fsync slow. */
const LIMIT_MS = 180_000;
/** Start-up of node and oclif: no round needs to be killed before that. */
const STARTUP_MS = 80;

const next = random(SEED);
const bench = new LongJobBench();
beforeAll(() => bench.make(SIZES));

/** When to kill, in ms: since the start of the process, or (every other round) since its first sign of work. */
function delayOf(round: number, totalMs: number): { readonly sinceWork: boolean; readonly ms: number } {
  const workMs = Math.max(20, totalMs - STARTUP_MS);
  const sinceWork = round % 2 === 1;
  return { sinceWork, ms: sinceWork ? (next() * workMs) / 2 : STARTUP_MS + next() * workMs };
}

/** Starts the job, kills it, and tells whether it was still alive. */
async function killOnce(job: LongJob, at: (name: string) => string, round: number, totalMs: number): Promise<string> {
  const env = round % 3 === 2 ? { COWTOOL_NO_FFI: "1" } : {};
  const { child, ended, says } = start([...job.argv(at), "--progress=json"], { env });
  const { sinceWork, ms } = delayOf(round, totalMs);
  if (sinceWork) await says(/"phase"/);
  await pause(ms);
  child.kill("SIGKILL");
  const { signal, status } = await ended;
  if (signal !== "SIGKILL") expect(status).toBe(0);
  return signal ?? "";
}

/** How far a killed job had come, by what it left. */
function stageOf(names: readonly string[]): string {
  if (names.some((name) => name.endsWith(".cowtool-merge"))) return "merging";
  return names.some((name) => name.endsWith(".tmp")) ? "writing" : "alive";
}

describe("killed at random", { timeout: LIMIT_MS }, () => {
  test.each(LONG_JOBS)("$title is completed by the same command", async (job) => {
    const { ms } = await bench.reference(job);
    const rounds = Array.from({ length: runs(ROUNDS[job.title] ?? 3) }, () => bench.newRound(job));
    const seen: string[] = [];
    for (const [i, round] of rounds.entries()) {
      const signal = await killOnce(job, round.at, i, ms);
      seen.push(signal === "" ? "done" : stageOf(readdirSync(round.dir)));
      await bench.expectWhole(job, round);
      await bench.expectCompletion(job, round, COMPLETED_BY[i % COMPLETED_BY.length]);
      if (existsSync(round.at("undo.cow"))) await bench.expectUndone(round);
      bench.forget(round);
    }
    process.stderr.write(`killed: ${job.title}: ${seen.join(" ")}\n`);
    // The rounds must have met the job at work, or they prove nothing.
    expect(seen.filter((state) => state !== "done").length).toBeGreaterThan(0);
  });

  test("merge is completed though it is killed again and again", async () => {
    const job = LONG_JOBS.find(({ title }) => title === "merge --undo") as LongJob;
    const { ms } = await bench.reference(job);
    const round = bench.newRound(job);
    for (let i = 0; i < 4; i++) {
      await killOnce(job, round.at, 1, ms);
      await bench.expectWhole(job, round);
    }
    await bench.expectCompletion(job, round);
    await bench.expectUndone(round);
  });

  test("merge is taken back by the undo file, wherever it was killed after saving that", async () => {
    const job = LONG_JOBS.find(({ title }) => title === "merge --undo") as LongJob;
    const round = bench.newRound(job);
    const { child, ended, says } = start([...job.argv(round.at), "--progress=json"]);
    await says(/"merging"/);
    child.kill("SIGKILL");
    await ended;
    await bench.expectWhole(job, round);
    await bench.expectUndone(round);
    const undone = readdirSync(round.dir).sort();
    expect(undone).toEqual(["large.cow", "large.img", "undo.cow"]);
    const again = await run("merge", [round.at("large.img"), round.at("large.cow"), "-y"]);
    expect(again.status, again.stderr).toBe(0);
  });
});
