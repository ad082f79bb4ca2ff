/**
 * The benchmarks: makes their inputs, runs cowtool and its peers by turns, says what came out. README.md beside this file
 * has the options and the method. Figures are only as good as the machine is idle.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { runCheckpoint, runFork, runRollback } from "./checkpoint.mjs";
import { runDepth } from "./depth.mjs";
import { runGrowth } from "./growth.mjs";
import { makeBase } from "./inputs.mjs";
import { runMany } from "./many-exports.mjs";
import { must, pause } from "./measure.mjs";
import { runOffline } from "./offline.mjs";
import { draw } from "./plot.mjs";
import { compile, machine, ROOT, skip, skipped, versions } from "./programs.mjs";
import { runReopen } from "./reopen.mjs";
import { fullReport } from "./report.mjs";
import { runRounds, writeKeys } from "./rounds.mjs";
import { availableServers, killAll, PEERS } from "./servers.mjs";
import { runStall } from "./stall.mjs";
import { PHASE_IDS, phases } from "./workloads.mjs";

const MORE = ["stall", "growth", "reopen", "offline", "checkpoint", "fork", "depth", "many"];
const BASE_BYTES = 2 ** 31;
const SMOKE_BASE_BYTES = 2 ** 26;
/** What costs minutes a round is not repeated as often. */
const LONG_ROUNDS = 3;

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "1" },
    only: { type: "string" },
    peers: { type: "string" },
    smoke: { type: "boolean", default: false },
    "no-touch": { type: "boolean", default: false },
    dir: { type: "string", default: tmpdir() },
    keep: { type: "boolean", default: false },
    json: { type: "string" },
    report: { type: "string" },
    svg: { type: "string" },
  },
});

function listOf(text, known, what) {
  const names = text?.split(",").filter(Boolean);
  const unknown = names?.find((name) => !known.includes(name));
  if (unknown === undefined) return names;
  console.error(`bench: there is no ${what} ${unknown}: ${known.join(", ")}`);
  process.exit(16);
}

function positive(text, what) {
  const number = Number(text);
  if (number > 0) return number;
  console.error(`bench: --${what} wants a number above 0`);
  process.exit(16);
}

const only = listOf(values.only, [...PHASE_IDS, ...MORE], "workload");
const peers = listOf(values.peers, [...PEERS, "bare"], "peer");
const { smoke } = values;
const rounds = smoke ? 1 : positive(values.rounds, "rounds");
const seconds = smoke ? 0.02 : positive(values.seconds, "seconds");
const isWanted = (section) => only === undefined || only.includes(section);
const isPublished = !smoke && only === undefined && peers === undefined;

const work = mkdtempSync(join(resolve(values.dir), "cowtool-bench-"));
const stamp = new Date().toISOString();
const jsonFile = resolve(
  values.json ??
    (smoke ? join(work, "smoke.json") : join(ROOT, "bench/results", `${stamp.slice(0, 16).replace(":", "")}.json`)),
);
/** Only a whole run replaces what the repository shows, unless a file is named. */
const reportFile = values.report ?? (isPublished ? join(ROOT, "bench/RESULTS.md") : undefined);
const svgFile = values.svg ?? (isPublished ? join(ROOT, "docs/bench.svg") : undefined);

let failures = 0;
const context = {
  work,
  smoke,
  base: join(work, "base.img"),
  user: userInfo().username,
  say: (text) => console.error(`bench: ${text}`),
  fail: (text) => {
    failures++;
    console.error(`FAILED: ${text}`);
  },
};

async function leave(status) {
  killAll("SIGTERM"); // nbdfuse takes its file system along
  await pause(500);
  killAll("SIGKILL");
  rmSync(work, { recursive: true, force: true });
  process.exit(status);
}
for (const [name, status] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
])
  process.once(name, () => leave(status));

const data = { date: stamp, machine: machine(work), programs: versions(), options: { rounds, seconds, smoke } };

function save(part) {
  Object.assign(data, part);
  mkdirSync(dirname(jsonFile), { recursive: true });
  // A line a sample: small enough to keep, and to compare.
  const text = JSON.stringify(data, null, 1).replace(/\{[^{}[\]]*\}/g, (object) => object.replace(/\s*\n\s*/g, " "));
  writeFileSync(jsonFile, `${text}\n`);
}

function choose() {
  const [servers, unavailable] = availableServers(peers);
  for (const { title, needs } of unavailable) skip(`${title}: no ${needs.join(" or ")}`);
  data.servers = servers.map(({ name, title, kind }) => ({ name, title, kind }));
  return servers;
}

async function runServing(servers) {
  context.programs = await compile(work);
  if (!context.programs) return;
  const baseBytes = smoke ? SMOKE_BASE_BYTES : BASE_BYTES;
  makeBase(context.base, baseBytes);
  context.keys = writeKeys(work, context.user);
  data.options.base_bytes = baseBytes;
  if (!smoke && !values["no-touch"]) await must(context.programs.load, ["touch"]);
  const few = Math.min(rounds, LONG_ROUNDS);
  const wanted = phases({ seconds, scale: smoke ? 0.01 : 1 }).filter(({ id }) => isWanted(id));
  if (wanted.length > 0) {
    await runRounds(context, { phases: wanted, servers, rounds, save: (online) => save({ online }) });
  }
  if (isWanted("stall")) save({ stall: await runStall(context, { servers, rounds, seconds }) });
  if (isWanted("growth")) save({ growth: await runGrowth(context, { rounds: few, seconds, smoke }) });
  if (isWanted("depth")) save({ depth: await runDepth(context, { rounds, seconds, smoke }) });
  if (isWanted("checkpoint")) save({ checkpoint: await runCheckpoint(context, { rounds, smoke }) });
  if (isWanted("fork")) {
    save({ fork: await runFork(context, { rounds: few, smoke }) });
    save({ rollback: await runRollback(context, { rounds: few, smoke }) });
  }
  if (isWanted("many")) save({ many: await runMany(context, { rounds: few, smoke }) });
  if (isWanted("reopen")) save({ reopen: await runReopen(context, { rounds: few, smoke }) });
}

try {
  const servers = choose();
  if (only === undefined || only.some((name) => name !== "offline")) await runServing(servers);
  if (isWanted("offline")) save({ offline: await runOffline(context, { rounds, smoke }) });
  save({ skipped: skipped(), failures });
  const report = fullReport(data);
  console.log(report);
  if (reportFile) writeFileSync(reportFile, report);
  if (svgFile && data.online) writeFileSync(svgFile, draw(data));
  if (!smoke || values.json) context.say(`figures of each round: ${jsonFile}`);
} finally {
  if (values.keep) context.say(`kept: ${work}`);
  else rmSync(work, { recursive: true, force: true });
}
process.exitCode = failures > 0 ? 1 : 0;
