/**
 * The benchmark of the offline commands: makes its inputs, runs every job in interleaved rounds, prints medians and
 * peak memory. `npm run bench -- [--rounds N] [--dir DIR] [--smoke]`; figures are only as good as the machine is idle.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { crash, makeImage } from "./inputs.mjs";
import { median, run } from "./measure.mjs";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    dir: { type: "string" },
    smoke: { type: "boolean", default: false },
  },
});
const rounds = values.smoke ? 1 : Number(values.rounds);
const root = new URL("..", import.meta.url).pathname;
const dir = values.dir ?? mkdtempSync(join(tmpdir(), "cowtool-bench-"));
mkdirSync(dir, { recursive: true });

/** 8 GiB with 200 MiB in 3200 runs of 64 KiB is what the original tools were measured on; 1 TiB shows that size costs nothing. */
const SETS = values.smoke
  ? [{ name: "smoke", sizeBytes: 1 << 28, runs: 40, runBytes: 65536 }]
  : [
      { name: "8 GiB, 3200 runs", sizeBytes: 8 * 2 ** 30, runs: 3200, runBytes: 65536 },
      { name: "1 TiB, 3200 runs", sizeBytes: 2 ** 40, runs: 3200, runBytes: 65536 },
    ];

const cowtool = (...args) => run(process.execPath, [join(root, "bin/run.js"), ...args], { cwd: dir });
const shell = (script) => run("sh", ["-c", script], { cwd: dir });

/** What is timed; `before` is not. `original` is what the C tool took on the first set, on a machine of two cores. */
const JOBS = [
  {
    name: "create --from",
    before: "rm -f new.cow",
    run: () => cowtool("create", "base.img", "new.cow", "--from", "changed.img"),
  },
  {
    name: "repair",
    before: "cp --sparse=always crashed.cow work.cow; sync",
    run: () => cowtool("repair", "work.cow"),
    original: "12 s",
  },
  {
    name: "merge",
    before: "cp --sparse=always base.img work.img; sync",
    run: () => cowtool("merge", "-y", "work.img", "layer.cow"),
    original: "0.7 s, without sync",
  },
  {
    name: "merge --undo",
    before: "rm -f undo.cow; cp --sparse=always base.img work.img; sync",
    run: () => cowtool("merge", "-y", "work.img", "layer.cow", "--undo", "undo.cow"),
  },
  { name: "merge -o", before: "rm -f out.img", run: () => cowtool("merge", "base.img", "layer.cow", "-o", "out.img") },
  { name: "pack (zstd)", before: "rm -f new.zst", run: () => cowtool("pack", "layer.cow", "new.zst") },
  {
    name: "pack --format gzip",
    before: "rm -f new.gz",
    run: () => cowtool("pack", "layer.cow", "new.gz", "--format", "gzip"),
    original: "3.3 s",
  },
  { name: "unpack (zstd)", before: "rm -f back.cow; sync", run: () => cowtool("unpack", "layer.zst", "back.cow") },
  {
    name: "unpack (gzip)",
    before: "rm -f back.cow; sync",
    run: () => cowtool("unpack", "layer.gz", "back.cow"),
    original: "0.7 s, without sync",
  },
  { name: "diff of two cowfiles", run: () => cowtool("diff", "layer.cow", "work.cow") },
  { name: "check", run: () => cowtool("check", "layer.cow") },
  { name: "info --map", run: () => cowtool("info", "--map", "layer.cow") },
  {
    name: "cp --sparse=always layer + sync",
    before: "rm -f copy.cow",
    run: () => shell("cp --sparse=always layer.cow copy.cow && sync copy.cow"),
  },
  { name: "node -e 0", run: () => run(process.execPath, ["-e", "0"]) },
  { name: "cowtool --version", run: () => cowtool("--version") },
];

let failed = 0;
for (const set of SETS) {
  makeImage(join(dir, "base.img"), { ...set, runs: 0, seed: 1 });
  makeImage(join(dir, "changed.img"), { ...set, seed: 42 });
  const made = await cowtool("create", "-f", "base.img", "layer.cow", "--from", "changed.img");
  if (made.status !== 0) throw new Error(made.output);
  await shell("cp --sparse=always layer.cow crashed.cow; cp --sparse=always layer.cow work.cow");
  await cowtool("pack", "-f", "layer.cow", "layer.zst");
  await cowtool("pack", "-f", "layer.cow", "layer.gz", "--format", "gzip");
  crash(join(dir, "crashed.cow"));
  const results = new Map(JOBS.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const job of JOBS) {
      if (job.before) await shell(job.before);
      const result = await job.run();
      if (result.status !== 0) {
        failed++;
        console.error(`${job.name}: exit ${result.status}\n${result.output}`);
      }
      results.get(job.name).push(result);
    }
  }
  console.log(`\n${set.name}, ${rounds} rounds\n`);
  console.log("| job | median ms | min | max | peak MiB | original |\n|---|---|---|---|---|---|");
  for (const { name, original } of JOBS) {
    const runs = results.get(name);
    const ms = runs.map((result) => result.ms);
    const peak = Math.max(...runs.map((result) => result.peak)) / 1024;
    const known = set === SETS[0] && !values.smoke ? (original ?? "") : "";
    console.log(
      `| ${name} | ${median(ms).toFixed(0)} | ${Math.min(...ms).toFixed(0)} | ${Math.max(...ms).toFixed(0)} | ${peak.toFixed(0)} | ${known} |`,
    );
  }
}
if (values.dir === undefined) rmSync(dir, { recursive: true, force: true });
process.exitCode = failed > 0 ? 1 : 0;
