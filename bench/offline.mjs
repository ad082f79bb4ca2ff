/**
 * Owns the benchmark of the offline commands: whole processes, start of Node included, beside what C tools of the machine
 * need for the same bytes. What writes is durable at the end, the tools' files are synced within their time.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { crash, makeImage } from "./inputs.mjs";
import { must, rotated, run } from "./measure.mjs";
import { has, skip } from "./programs.mjs";
import { cowtoolCommand } from "./servers.mjs";

/** 8 GiB with 200 MiB in 3200 runs is what the original tools were measured on; 1 TiB shows that size costs nothing. */
function sets({ smoke }) {
  if (smoke) return [{ name: "smoke", sizeBytes: 1 << 28, runs: 40, runBytes: 65536 }];
  return [
    { name: "8 GiB, 200 MiB in 3200 runs", sizeBytes: 8 * 2 ** 30, runs: 3200, runBytes: 65536, isOriginal: true },
    { name: "8 GiB, 1 GiB in 16384 runs", sizeBytes: 8 * 2 ** 30, runs: 16384, runBytes: 65536 },
    { name: "1 TiB, 200 MiB in 3200 runs", sizeBytes: 2 ** 40, runs: 3200, runBytes: 65536, isHuge: true },
  ];
}

const copied = (from, to) => `cp --sparse=always ${from} ${to} && sync ${to}`;

/**
 * What is timed; `before` is not. `tool` does the same work, and is left out on an image of which it would read every
 * hole (`readsHoles`). `original` is what cowloop's own utility took on the first set.
 */
const JOBS = [
  { name: "create --from", before: "rm -f new.cow", args: ["create", "base.img", "new.cow", "--from", "changed.img"] },
  {
    name: "repair",
    before: "cp --sparse=always crashed.cow work.cow; rm -f copy.cow; sync",
    args: ["repair", "work.cow"],
    tool: copied("crashed.cow", "copy.cow"),
    toolName: "cp --sparse",
    original: "12 s",
  },
  {
    name: "merge",
    before: "cp --sparse=always base.img work.img; rm -f copy.cow; sync",
    args: ["merge", "-y", "work.img", "layer.cow"],
    tool: copied("layer.cow", "copy.cow"),
    toolName: "cp --sparse",
    original: "0.7 s, without sync",
  },
  {
    name: "merge --undo",
    before: "rm -f undo.cow; cp --sparse=always base.img work.img; sync",
    args: ["merge", "-y", "work.img", "layer.cow", "--undo", "undo.cow"],
  },
  {
    name: "merge -o",
    before: "rm -f out.img copy.img; sync",
    args: ["merge", "base.img", "layer.cow", "-o", "out.img"],
    tool: copied("changed.img", "copy.img"),
    toolName: "cp --sparse",
  },
  {
    name: "diff of two cowfiles",
    args: ["diff", "layer.cow", "twin.cow"],
    tool: "cmp layer.cow twin.cow",
    toolName: "cmp",
    readsHoles: true,
  },
  {
    name: "pack (zstd)",
    before: "rm -f new.zst tool.zst; sync",
    args: ["pack", "layer.cow", "new.zst"],
    tool: "zstd -q -3 -T0 layer.plain -o tool.zst && sync tool.zst",
    toolName: "zstd -T0",
    needs: "zstd",
  },
  {
    name: "pack --format gzip",
    before: "rm -f new.gz tool.gz; sync",
    args: ["pack", "layer.cow", "new.gz", "--format", "gzip"],
    tool: "pigz -9 -c layer.plain >tool.gz && sync tool.gz",
    toolName: "pigz -9",
    needs: "pigz",
    original: "3.3 s",
  },
  {
    name: "unpack (zstd)",
    before: "rm -f back.cow tool.plain; sync",
    args: ["unpack", "layer.zst", "back.cow"],
    tool: "zstd -q -d -T0 layer.zst -o tool.plain && sync tool.plain",
    toolName: "zstd -d",
    needs: "zstd",
  },
  {
    name: "unpack (gzip)",
    before: "rm -f back.cow tool.plain; sync",
    args: ["unpack", "layer.gz", "back.cow"],
    tool: "pigz -d -c layer.gz >tool.plain && sync tool.plain",
    toolName: "pigz -d",
    needs: "pigz",
    original: "0.7 s, without sync",
  },
  { name: "check", args: ["check", "layer.cow"] },
  {
    name: "info --map",
    args: ["info", "--map", "layer.cow"],
    tool: "filefrag -v layer.cow",
    toolName: "filefrag -v",
    needs: "filefrag",
  },
  { name: "cowtool --version", args: ["--version"], tool: `${process.execPath} -e 0`, toolName: "node -e 0" },
];

function runnersOf(dir, set, job) {
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
  const [command, ...args] = cowtoolCommand(...job.args);
  const runners = [{ who: "cowtool", run: () => run(command, args, { cwd: dir }) }];
  const lacks = job.needs && !has(job.needs);
  if (lacks) skip(`offline, ${job.name}: no ${job.needs} to compare with`);
  if (job.tool && !lacks && !(set.isHuge && job.readsHoles))
    runners.push({ who: "tool", run: () => run("sh", ["-c", job.tool], { cwd: dir, env }) });
  return runners;
}

async function prepare(dir, set) {
  const sh = (script) => must("sh", ["-c", script], { cwd: dir });
  const cowtool = (...args) => {
    const [command, ...rest] = cowtoolCommand(...args);
    return must(command, rest, { cwd: dir });
  };
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir);
  makeImage(join(dir, "base.img"), { ...set, runs: 0, seed: 1 });
  makeImage(join(dir, "changed.img"), { ...set, seed: 42 });
  await cowtool("create", "base.img", "layer.cow", "--from", "changed.img");
  await sh("cp --sparse=always layer.cow crashed.cow; cp --sparse=always layer.cow twin.cow");
  await cowtool("pack", "layer.cow", "layer.zst");
  await cowtool("pack", "layer.cow", "layer.gz", "--format", "gzip");
  await cowtool("pack", "layer.cow", "layer.plain", "--format", "plain");
  crash(join(dir, "crashed.cow"));
}

async function runSet(context, set, rounds) {
  const dir = join(context.work, "offline");
  await prepare(dir, set);
  const rows = JOBS.map(({ name, toolName, original }) => ({
    ...{ name, tool: toolName, results: { cowtool: [], tool: [] } },
    original: set.isOriginal ? original : undefined,
  }));
  for (let round = 0; round < rounds; round++) {
    for (const [i, job] of JOBS.entries()) {
      const samples = { cowtool: null, tool: null };
      for (const { who, run: perform } of rotated(runnersOf(dir, set, job), round)) {
        if (job.before) await must("sh", ["-c", job.before], { cwd: dir });
        const result = await perform();
        if (result.status === 0) samples[who] = { ms: result.ms, peak_kib: result.peak };
        else context.fail(`offline, ${job.name} (${who}): exit ${result.status}\n${result.output}`);
      }
      for (const who of ["cowtool", "tool"]) rows[i].results[who].push(samples[who]);
    }
    context.say(`round ${round + 1}/${rounds}: offline, ${set.name}`);
  }
  rmSync(dir, { recursive: true, force: true });
  return { name: set.name, rows };
}

/** @returns for each set of inputs a row for each job, with samples of cowtool and of the tool beside it */
export async function runOffline(context, { rounds, smoke }) {
  const results = [];
  for (const set of sets({ smoke })) results.push(await runSet(context, set, rounds));
  return results;
}
