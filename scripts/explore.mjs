/**
 * The crash explorer: random lives of a cowfile that is being written, cut off at every change, each state opened and
 * judged. `npm run explore -- [--seed N] [--minutes M | --states N] [--jobs J]`; one life again, change by change:
 * `npm run explore -- --seed N --lives 1 --trace`; with a bug planted: `--mutation NAME` (test/explore/mutations.ts).
 */
import { spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { availableParallelism } from "node:os";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    minutes: { type: "string" },
    states: { type: "string" },
    lives: { type: "string" },
    jobs: { type: "string" },
    mutation: { type: "string" },
    chains: { type: "boolean", default: false },
    trace: { type: "boolean", default: false },
  },
});
const seed = Number(values.seed ?? randomInt(1_000_000_000));
const jobs = values.lives === undefined ? Number(values.jobs ?? availableParallelism()) : 1;
const seconds = Number(values.minutes ?? 1) * 60;
const run = fileURLToPath(new URL("../test/explore/run.ts", import.meta.url));
const begun = performance.now();
const latest = Array.from({ length: jobs }, () => ({ lives: 0, states: 0, failures: [] }));

function printSums() {
  const sum = (of) => latest.reduce((total, one) => total + of(one), 0);
  const passed = (performance.now() - begun) / 1000;
  const states = sum((one) => one.states);
  console.log(
    `${passed.toFixed(0)} s: ${sum((one) => one.lives)} lives, ${states} states (${(states / passed).toFixed(0)} a second), ${sum((one) => one.failures.length)} failures`,
  );
}

/** One process: its share of the seeds. */
function work(job) {
  const options = ["--seed", String(seed + job), "--stride", String(jobs)];
  if (values.lives !== undefined) options.push("--lives", values.lives);
  else if (values.states !== undefined) options.push("--states", String(Math.ceil(Number(values.states) / jobs)));
  else options.push("--seconds", String(seconds));
  if (values.chains) options.push("--chains");
  if (values.mutation !== undefined) options.push("--mutation", values.mutation);
  if (values.trace) options.push("--trace");
  const child = spawn(process.execPath, [run, ...options], { stdio: ["ignore", "pipe", "inherit"] });
  createInterface({ input: child.stdout }).on("line", (line) => {
    if (!line.startsWith("{")) {
      console.log(line);
      return;
    }
    const explored = JSON.parse(line);
    for (const failure of explored.failures.slice(latest[job].failures.length)) console.log(`FAILED: ${failure}`);
    latest[job] = explored;
  });
  return new Promise((resolve) =>
    child.on("close", (status, signal) => {
      if (status !== 0) console.log(`process ${job + 1} ended before its time: ${signal ?? `status ${status}`}`);
      resolve(status);
    }),
  );
}

console.log(`seed ${seed}, ${jobs} processes`);
const timer = setInterval(printSums, 15_000);
const statuses = await Promise.all(latest.map((_, job) => work(job)));
clearInterval(timer);
printSums();
const failed = latest.flatMap(({ failures }) => failures);
if (failed.length > 0) console.log("again, change by change: npm run explore -- --seed SEED --lives 1 --trace");
process.exitCode = failed.length > 0 || statuses.some((status) => status !== 0) ? 1 : 0;
