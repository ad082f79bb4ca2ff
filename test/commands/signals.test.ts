/**
 * Proves that SIGINT and SIGTERM stop a real process at a safe point: exit status 130 or 143, one line that says what
 * state the files are in, nothing half-written under a final name, and the same command completes the job.
 */
import { existsSync, readdirSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { expectErrorJson, expectErrorLine } from "../support/command/harness.ts";
import { LONG_JOBS, type LongJob, LongJobBench, type Round } from "../support/command/long-jobs.ts";
import { type Ended, finish, start } from "../support/command/real-process.ts";

/** More than 40 ms of work in each phase. */
const SIZES = { mebibytes: 48, dirtyMebibytes: 224 };
const ATTEMPTS = 6;
/** A disk that others keep busy makes each fsync slow. */
const LIMIT_MS = 180_000;

const bench = new LongJobBench();
beforeAll(() => bench.make(SIZES));

interface Stopped {
  readonly round: Round;
  readonly ran: Ended;
}

/** Signals the job as soon as its progress names the phase; a job that was faster than the signal gets another chance. */
async function stopIn(
  job: LongJob,
  phase: string,
  signal: NodeJS.Signals,
  flags: readonly string[] = [],
): Promise<Stopped> {
  for (let attempt = 1; ; attempt++) {
    const round = bench.newRound(job);
    const { child, ended, says } = start([...job.argv(round.at), "--progress=json", ...flags]);
    await says(new RegExp(`"phase":"${phase}"`));
    child.kill(signal);
    const ran = await ended;
    expect(ran.timedOut).toBe(false);
    if (ran.status !== 0 || attempt === ATTEMPTS) return { round, ran };
    bench.forget(round);
  }
}

function withoutProgress(ran: Ended): Ended {
  return { ...ran, stderr: ran.stderr.replace(/^\{.*\}\n/gm, "") };
}

describe("SIGINT", { timeout: LIMIT_MS }, () => {
  test.each(LONG_JOBS)("$title: stops in each phase, says so, and can be completed", async (job) => {
    await bench.reference(job);
    for (const phase of job.phases) {
      const { round, ran } = await stopIn(job, phase, "SIGINT");
      const line = expectErrorLine(withoutProgress(ran), 130);
      expect(line).toMatch(/: interrupted: /);
      expect(line).toMatch(/nothing was (?:changed|created)|was not created|the same command completes the/);
      await bench.expectWhole(job, round);
      expect(readdirSync(round.dir).filter((name) => /\.tmp$|\.cowtool-lock/.test(name))).toEqual([]);
      if (job.refusesTwice) for (const name of job.appears) expect(existsSync(round.at(name))).toBe(false);
      await bench.expectCompletion(job, round);
      if (existsSync(round.at("undo.cow"))) await bench.expectUndone(round);
      bench.forget(round);
    }
  });

  test("tells it as JSON, too", async () => {
    const [job] = LONG_JOBS as readonly [LongJob, ...LongJob[]];
    const { round, ran } = await stopIn(job, "merging", "SIGINT", ["--json"]);
    const error = expectErrorJson(withoutProgress(ran), 130);
    expect(error).toMatchObject({ code: "interrupted", details: { file: round.at("large.img") } });
    const dry = await finish([...job.argv(round.at), "-n", "--json"]);
    expect(JSON.parse(dry.stdout)).toMatchObject({ resumed: true, dry_run: true });
    const again = await finish([...job.argv(round.at), "--json"]);
    expect(JSON.parse(again.stdout)).toMatchObject({ resumed: true, blocks_merged: bench.heldBlocks });
    bench.forget(round);
  });

  test("stops a check, which changes nothing anyway", async () => {
    const repair = LONG_JOBS.find(({ title }) => title === "repair") as LongJob;
    const job = { ...repair, results: [], argv: (at: Round["at"]) => ["check", at("dirty.cow")] };
    const { round, ran } = await stopIn(job, "scanning", "SIGINT");
    expect(expectErrorLine(withoutProgress(ran), 130)).toMatch(/nothing was changed$/);
    await bench.expectWhole(job, round);
  });

  test("given twice ends it at once, and the same command still completes it", async () => {
    const job = LONG_JOBS.find(({ title }) => title === "merge --undo") as LongJob;
    const round = bench.newRound(job);
    const { child, ended, says } = start([...job.argv(round.at), "--progress=json"]);
    await says(/"merging"/);
    child.kill("SIGINT");
    child.kill("SIGINT");
    const ran = await ended;
    expect([0, 130]).toContain(ran.status);
    await bench.expectWhole(job, round);
    await bench.expectCompletion(job, round);
    bench.forget(round);
  });
});

describe("SIGTERM", { timeout: LIMIT_MS }, () => {
  test.each(LONG_JOBS.slice(0, 2))("$title: exit status 143", async (job) => {
    const { round, ran } = await stopIn(job, job.phases.at(-1) ?? "", "SIGTERM");
    expectErrorLine(withoutProgress(ran), 143);
    await bench.expectWhole(job, round);
    bench.forget(round);
  });
});
