/**
 * Owns the question what many exports over one base cost: how soon they are ready, memory and descriptors of each, how
 * soon a new one answers, and what many short connections leave behind. Against qemu-storage-daemon by `npm run bench --
 * --only many`; by itself, with more questions, of cowtool only:
 *
 *     node bench/many-exports.mjs [--counts 100,1000] [--rounds 3] [--size BYTES] [--connections 20000] [--dir DIR]
 */
import { spawn } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { visit } from "./control.mjs";
import { makeBase } from "./inputs.mjs";
import { median, must, pause, percentile, rotated } from "./measure.mjs";
import { has, ROOT, skip } from "./programs.mjs";
import { cowtoolCommand, launch } from "./servers.mjs";

/** Memory of its own in KiB: what only this process has, without pages of files that others have mapped, too. */
function ownKib(pid) {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const of = (key) => Number(new RegExp(`${key}:\\s+(\\d+)`).exec(rollup)?.[1] ?? 0);
  return of("Pss_Anon") + of("Pss_Shmem");
}

/** Processor time of all its threads. */
function cpuMs(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

const descriptors = (pid) => readdirSync(`/proc/${pid}/fd`).length;

const manyFiles = (dir, count, suffix) => Array.from({ length: count }, (_, i) => join(dir, `vm${i}.${suffix}`));

/** A base in `work`, and an empty layer over it for each server. */
async function prepare(work, size) {
  const inputs = {
    work,
    base: join(work, "golden.img"),
    cow: join(work, "empty.cow"),
    qcow2: join(work, "empty.qcow2"),
  };
  makeBase(inputs.base, size);
  const [command, ...args] = cowtoolCommand("create", "--identity", "none", inputs.base, inputs.cow);
  await must(command, args);
  if (has("qemu-img"))
    await must("qemu-img", ["create", "-q", "-f", "qcow2", "-b", inputs.base, "-F", "raw", inputs.qcow2]);
  return inputs;
}

/** Cowfiles without base records, sparse as new ones are. */
function cowfiles({ cow }, dir, count) {
  mkdirSync(dir);
  const head = readFileSync(cow).subarray(0, 4096);
  const { size } = statSync(cow);
  const files = manyFiles(dir, count, "cow");
  for (const file of files) {
    writeFileSync(file, head);
    truncateSync(file, size);
  }
  return files;
}

async function serve({ base }, files, socket) {
  const exports = files.flatMap((file, i) => ["--export", `vm${i}=${base},${file}`]);
  const [command, ...args] = cowtoolCommand("serve", ...exports, "--socket", socket, "--max-connections", "2000");
  rmSync(socket, { force: true });
  const start = performance.now();
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise((done) => child.once("exit", done));
  await new Promise((ready) => child.stdout.once("data", ready));
  child.stdout.resume();
  return {
    pid: child.pid,
    ms: performance.now() - start,
    cpuMs: cpuMs(child.pid),
    stop: () => {
      child.kill("SIGTERM");
      return ended;
    },
  };
}

/** Exports of qcow2 files in one daemon; ready when the last one has answered. */
async function serveQemu({ work, qcow2 }, dir, count, socket) {
  mkdirSync(dir);
  const files = manyFiles(dir, count, "qcow2");
  for (const file of files) copyFileSync(qcow2, file);
  const arguments_ = files.flatMap((filename, i) => [
    ...["--blockdev", JSON.stringify({ driver: "qcow2", "node-name": `n${i}`, file: { driver: "file", filename } })],
    ...["--export", `type=nbd,id=e${i},node-name=n${i},name=vm${i},writable=on`],
  ]);
  const command = ["qemu-storage-daemon", "--nbd-server", `addr.type=unix,addr.path=${socket},max-connections=0`];
  const start = performance.now();
  const started = await launch([...command, ...arguments_], {
    listen: { unix: socket },
    log: join(work, "many-qemu.log"),
  });
  for (let last = false; !last; )
    last = await visit(socket, `vm${count - 1}`).then(
      () => true,
      () => false,
    );
  return { ...started, ms: performance.now() - start, cpuMs: cpuMs(started.pid) };
}

async function measureStart(inputs, count, round) {
  const dir = join(inputs.work, `start-${count}-${round}`);
  const files = cowfiles(inputs, dir, count);
  const socket = join(dir, "s");
  const one = await serve(inputs, files.slice(0, 1), socket);
  await pause(1500);
  const [oneKib, oneFds] = [ownKib(one.pid), descriptors(one.pid)];
  await one.stop();
  await must("sync", []);
  const server = await serve(inputs, files, socket);
  await pause(3000);
  const result = {
    ready_ms: server.ms,
    ready_cpu_ms: server.cpuMs,
    one_ms: one.ms,
    kib_each: (ownKib(server.pid) - oneKib) / (count - 1),
    fds_each: (descriptors(server.pid) - oneFds) / (count - 1),
  };
  for (let i = 0; i < count; i++) await visit(socket, `vm${i}`, { write: true });
  await pause(3000);
  result.used_kib_each = (ownKib(server.pid) - oneKib) / (count - 1);
  const start = performance.now();
  await server.stop();
  result.stop_ms = performance.now() - start;
  rmSync(dir, { recursive: true });
  return result;
}

async function measureQemu(inputs, count, round) {
  const dir = join(inputs.work, `qemu-${count}-${round}`);
  const socket = join(inputs.work, "many-qemu.sock");
  const kib = [];
  let ready;
  for (const each of [1, count]) {
    rmSync(dir, { recursive: true, force: true });
    rmSync(socket, { force: true });
    ready = await serveQemu(inputs, dir, each, socket);
    await pause(1500);
    kib.push(ownKib(ready.pid));
    await ready.stop();
  }
  rmSync(dir, { recursive: true });
  return { ready_ms: ready.ms, ready_cpu_ms: ready.cpuMs, kib_each: (kib[1] - kib[0]) / (count - 1) };
}

/** Many short connections to two exports. */
async function measureChurn(inputs, count) {
  const dir = join(inputs.work, "churn");
  const socket = join(dir, "s");
  const server = await serve(inputs, cowfiles(inputs, dir, 2), socket);
  await pause(5000);
  const before = ownKib(server.pid);
  const start = performance.now();
  let begun = 0;
  const client = async () => {
    while (begun < count) await visit(socket, `vm${begun++ % 2}`, { write: begun % 3 === 0 });
  };
  await Promise.all(Array.from({ length: 16 }, client));
  const ms = performance.now() - start;
  await pause(5000);
  const result = { before_kib: before, after_kib: ownKib(server.pid), ms_each: ms / count };
  await server.stop();
  rmSync(dir, { recursive: true });
  return result;
}

/** By the library: from the stack's name to an image that has read. */
async function measureAdd(inputs, count) {
  const [{ ServedStack }, { nodeStorage }, shared] = await Promise.all(
    ["stack/live/served-stack.js", "device/node-storage.js", "stack/live/shared-lower.js"].map((file) =>
      import(join(ROOT, "dist/lib", file)).catch(() => ({})),
    ),
  );
  const files = cowfiles(inputs, join(inputs.work, "add"), count);
  const lowers = shared.LowerStacks && new shared.LowerStacks(nodeStorage);
  const stacks = [];
  const times = [];
  for (const file of files) {
    const start = performance.now();
    const stack = await ServedStack.open(nodeStorage, `${inputs.base},${file}`, {
      access: "writable",
      ...(lowers && { lowers }),
    });
    stack.image().read(new Uint8Array(4096), 0);
    times.push(performance.now() - start);
    stacks.push(stack);
  }
  for (const stack of stacks) stack.close();
  return { add_p50_ms: percentile(times, 0.5), add_p99_ms: percentile(times, 0.99) };
}

/** @returns the samples of each server, one a round */
export async function runMany(context, { rounds, smoke }) {
  const count = smoke ? 3 : 1000;
  const work = join(context.work, "many");
  mkdirSync(work);
  const inputs = await prepare(work, smoke ? 2 ** 26 : 2 ** 30);
  const kinds = [{ name: "cowtool", title: "cowtool", measure: measureStart }];
  if (has("qemu-storage-daemon")) kinds.push({ name: "qsd", title: "qemu-storage-daemon", measure: measureQemu });
  else skip("many: no qemu-storage-daemon");
  const results = {};
  for (let round = 0; round < rounds; round++) {
    for (const { name, measure } of rotated(kinds, round)) {
      const sample = await measure(inputs, count, round).catch((error) => {
        context.fail(`many, ${name}: ${error.message}`);
        return null;
      });
      results[name] ??= [];
      results[name].push(sample);
    }
    context.say(`round ${round + 1}/${rounds}: many`);
  }
  rmSync(work, { recursive: true, force: true });
  return { count, servers: kinds.map(({ name, title }) => ({ name, title })), results };
}

const say = (what, results) => {
  const keys = Object.keys(results[0] ?? {});
  console.log(what, keys.map((key) => `${key} ${median(results.map((each) => each[key])).toFixed(2)}`).join("  "));
};

async function main() {
  const { values } = parseArgs({
    options: {
      counts: { type: "string", default: "100,1000" },
      rounds: { type: "string", default: "3" },
      size: { type: "string", default: String(2 ** 30) },
      connections: { type: "string", default: "20000" },
      adds: { type: "string", default: "200" },
      dir: { type: "string", default: tmpdir() },
    },
  });
  const work = mkdtempSync(join(resolve(values.dir), "cowtool-many-"));
  try {
    const inputs = await prepare(work, Number(values.size));
    const rounds = Array.from({ length: Number(values.rounds) }, (_, i) => i);
    for (const count of values.counts.split(",").filter(Boolean).map(Number)) {
      const results = [];
      for (const round of rounds) results.push(await measureStart(inputs, count, round));
      say(`${count} exports:`, results);
    }
    if (Number(values.adds) > 0) say("add by the library:", [await measureAdd(inputs, Number(values.adds))]);
    if (Number(values.connections) > 0)
      say(`${values.connections} connections:`, [await measureChurn(inputs, Number(values.connections))]);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

if (process.argv[1] === import.meta.filename) await main();
