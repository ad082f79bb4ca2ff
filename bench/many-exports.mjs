/**
 * Owns the question what many exports over one base cost: how soon they are ready, memory and descriptors of each, how
 * soon a new one answers, and what many short connections leave behind. Only cowtool is measured.
 *
 *     node bench/many-exports.mjs [--counts 100,1000] [--rounds 3] [--size BYTES] [--connections 20000] [--dir DIR]
 */
import { spawn } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { makeBase } from "./inputs.mjs";
import { median, must, pause } from "./measure.mjs";
import { ROOT } from "./programs.mjs";
import { cowtoolCommand } from "./servers.mjs";

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
const base = join(work, "golden.img");
const empty = join(work, "empty.cow");

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

/** Cowfiles without base records, sparse as new ones are. */
function cowfiles(dir, count) {
  mkdirSync(dir);
  const head = readFileSync(empty).subarray(0, 4096);
  const { size } = statSync(empty);
  return Array.from({ length: count }, (_, i) => {
    const file = join(dir, `vm${i}.cow`);
    writeFileSync(file, head);
    truncateSync(file, size);
    return file;
  });
}

async function serve(files, socket) {
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

const u32 = (number) => Buffer.from([number >>> 24, (number >>> 16) & 255, (number >>> 8) & 255, number & 255]);

/** Takes bytes from a socket, exactly as many as asked for. */
function reader(client) {
  const chunks = [];
  let [have, wanted, give] = [0, 0, undefined];
  const serve = () => {
    if (!give || have < wanted) return;
    const all = Buffer.concat(chunks.splice(0));
    const taken = all.subarray(0, wanted);
    if (all.length > wanted) chunks.push(all.subarray(wanted));
    have -= wanted;
    const done = give;
    give = undefined;
    done(taken);
  };
  client.on("data", (bytes) => {
    chunks.push(bytes);
    have += bytes.length;
    serve();
  });
  return (count) =>
    new Promise((resolve, reject) => {
      [wanted, give] = [count, resolve];
      client.once("close", () => reject(new Error("hung up on")));
      serve();
    });
}

const NO_BYTES = Buffer.alloc(0);
const request = (type, length, data = NO_BYTES) =>
  Buffer.concat([u32(0x25609513), Buffer.from([0, 0, 0, type]), Buffer.alloc(16), u32(length), data]);

/** Connects, writes 4 KiB where wanted, reads 4 KiB, says goodbye. @returns milliseconds until the answer */
async function visit(socket, name, { write = false } = {}) {
  const start = performance.now();
  const client = connect(socket);
  const gone = new Promise((resolve) => client.once("close", resolve));
  const take = reader(client);
  await take(18);
  const info = Buffer.concat([u32(name.length), Buffer.from(name), Buffer.from([0, 0])]);
  client.write(Buffer.concat([u32(3), Buffer.from("IHAVEOPT"), u32(7), u32(info.length), info]));
  for (let type = 0; type !== 1; ) {
    const head = await take(20);
    type = head.readUInt32BE(12);
    await take(head.readUInt32BE(16));
    if (type >= 2 ** 31) throw new Error(`refused: ${type}`);
  }
  if (write) client.write(request(1, 4096, Buffer.alloc(4096, 1)));
  client.write(request(0, 4096));
  await take(4096 + 16 + (write ? 16 : 0));
  const ms = performance.now() - start;
  client.end(request(2, 0));
  await gone;
  return ms;
}

const percentile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];

async function measureStart(count, round) {
  const dir = join(work, `start-${count}-${round}`);
  const files = cowfiles(dir, count);
  const socket = join(dir, "s");
  const one = await serve(files.slice(0, 1), socket);
  await pause(1500);
  const [oneKib, oneFds] = [ownKib(one.pid), descriptors(one.pid)];
  await one.stop();
  await must("sync", []);
  const server = await serve(files, socket);
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

/** Many short connections to two exports. */
async function measureChurn(count) {
  const dir = join(work, "churn");
  const socket = join(dir, "s");
  const server = await serve(cowfiles(dir, 2), socket);
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
async function measureAdd(count) {
  const [{ ServedStack }, { nodeStorage }, shared] = await Promise.all(
    ["stack/live/served-stack.js", "device/node-storage.js", "stack/live/shared-lower.js"].map((file) =>
      import(join(ROOT, "dist/lib", file)).catch(() => ({})),
    ),
  );
  const files = cowfiles(join(work, "add"), count);
  const lowers = shared.LowerStacks && new shared.LowerStacks(nodeStorage);
  const stacks = [];
  const times = [];
  for (const file of files) {
    const start = performance.now();
    const stack = await ServedStack.open(nodeStorage, `${base},${file}`, {
      access: "writable",
      ...(lowers && { lowers }),
    });
    stack.image().read(new Uint8Array(4096), 0);
    times.push(performance.now() - start);
    stacks.push(stack);
  }
  for (const stack of stacks) stack.close();
  const sorted = times.toSorted((a, b) => a - b);
  return { add_p50_ms: percentile(sorted, 0.5), add_p99_ms: percentile(sorted, 0.99) };
}

const say = (what, results) => {
  const keys = Object.keys(results[0] ?? {});
  console.log(what, keys.map((key) => `${key} ${median(results.map((each) => each[key])).toFixed(2)}`).join("  "));
};

try {
  makeBase(base, Number(values.size));
  const [command, ...args] = cowtoolCommand("create", "--identity", "none", base, empty);
  await must(command, args);
  const rounds = Array.from({ length: Number(values.rounds) }, (_, i) => i);
  for (const count of values.counts.split(",").filter(Boolean).map(Number)) {
    const results = [];
    for (const round of rounds) results.push(await measureStart(count, round));
    say(`${count} exports:`, results);
  }
  if (Number(values.adds) > 0) say("add by the library:", [await measureAdd(Number(values.adds))]);
  if (Number(values.connections) > 0)
    say(`${values.connections} connections:`, [await measureChurn(Number(values.connections))]);
} finally {
  rmSync(work, { recursive: true, force: true });
}
