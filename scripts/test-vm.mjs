/**
 * Owns `npm run test:vm`: the Linux kernel's NBD client and QEMU's, in a small virtual machine, against `cowtool serve`.
 * The machine and what it does are ../shared/tools/vm-nbd-test.sh; this starts and ends the servers, and compares what the
 * guest read with what cowtool reads afterwards. Leaves nothing behind but that tool's own cache.
 *
 *   node scripts/test-vm.mjs [PART OF A NAME]...     only the trials whose names contain one of these
 *
 * Exit status: 0 all passed, or skipped, which it says; 1 something did not.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash, randomFillSync } from "node:crypto";
import {
  closeSync,
  createReadStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { KILL_TRIAL } from "./test-vm-kill.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const tool = join(root, "..", "shared", "tools", "vm-nbd-test.sh");
const program = join(root, "bin", "run.js");
const MACHINE = "qemu-system-x86_64";
const MIB = 1 << 20;
const SIZE_MIB = 80;
/** Machines at a time; each keeps a processor busy. */
const AT_A_TIME = 2;
const SERVER_MS = 30_000;

/**
 * For devices with blocks of 4096, where the tool's own writes of single sectors are no request the kernel would take:
 * attached "read-only", which tells the tool to write nothing itself, and this is run before it reads the device.
 */
const GUEST_SCRIPT = `
mkfs.ext4 -q -F -b 4096 $DEV > /tmp/e 2>&1 || fail "mkfs: $(cat /tmp/e)"
mount -t ext4 $DEV /mnt || fail mount
for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/mnt/f$i bs=4096 count=$((i*200)) 2>/dev/null & done; wait; sync
rm /mnt/f3; (cd /mnt && sha256sum f*) > /tmp/s1; umount /mnt || fail umount
blockdev --flushbufs $DEV; echo 3 > /proc/sys/vm/drop_caches
e2fsck -fn $DEV > /tmp/e 2>&1 || fail "fsck: $(cat /tmp/e)"
mount -t ext4 -o ro $DEV /mnt || fail remount; (cd /mnt && sha256sum f*) > /tmp/s2; umount /mnt
cmp /tmp/s1 /tmp/s2 || fail "content differs"; ok "ext4: 8 files at a time, fsck, all hashes equal"
`;
const WITH_SCRIPT = { NBD_RO: "1", NBD_BS: "4096", NBD_SCRIPT: "guest.sh" };

/** `env` is the tool's own; `over` is how the machine reaches the server, `disk` that QEMU is the client and not the kernel. */
const TRIALS = [
  { name: "kernel, TCP, blocks of 512, two connections", over: "tcp", env: { NBD_BS: "512", NBD_CONNS: "2" } },
  { name: "kernel, TCP, blocks of 4096, two connections", over: "tcp", env: { ...WITH_SCRIPT, NBD_CONNS: "2" } },
  { name: "kernel, unix socket, blocks of 512", over: "unix", env: { NBD_BS: "512" } },
  { name: "kernel, unix socket, blocks of 4096", over: "unix", env: WITH_SCRIPT },
  { name: "QEMU's client, TCP", over: "tcp", disk: true, env: {} },
  { name: "QEMU's client, unix socket", over: "unix", disk: true, env: {} },
  { name: "kernel, TCP, read-only", over: "tcp", readOnly: true, env: { NBD_RO: "1", NBD_BS: "512" } },
  KILL_TRIAL,
];

class Failure extends Error {}

const running = new Set();

function say(text) {
  process.stdout.write(`${text}\n`);
}

function skip(why) {
  say(`SKIPPED: the NBD server is not tried with a real kernel: ${why}`);
}

/** Runs a program to its end; its output together. */
function run(file, args, env = {}) {
  const child = spawn(file, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      text += chunk;
    });
  }
  return new Promise((resolve, reject) => {
    child.once("error", reject).once("close", (status) => resolve({ status, text }));
  });
}

async function cowtool(...args) {
  const { status, text } = await run(process.execPath, [program, ...args]);
  if (status !== 0) throw new Failure(`cowtool ${args.join(" ")} ended with ${status}: ${text}`);
  return text;
}

function makeRandomImage(path) {
  const piece = Buffer.alloc(MIB);
  const fd = openSync(path, "w");
  for (let n = 0; n < SIZE_MIB; n++) writeSync(fd, randomFillSync(piece));
  closeSync(fd);
}

function sha256(path) {
  const hash = createHash("sha256");
  return new Promise((resolve, reject) => {
    createReadStream(path, { highWaterMark: MIB })
      .on("data", (chunk) => hash.update(chunk))
      .once("error", reject)
      .once("end", () => resolve(hash.digest("hex")));
  });
}

/** Starts a server; resolves when it is ready. */
function serve(args) {
  const child = spawn(process.execPath, [program, "serve", "--json", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  let [stdout, stderr] = ["", ""];
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const ended = new Promise((resolve) => {
    child.once("close", (status) => {
      running.delete(child);
      resolve({ status, stderr });
    });
  });
  return new Promise((resolve, reject) => {
    const fail = () => reject(new Failure(`cowtool serve ${args.join(" ")} is not ready: ${stdout}${stderr}`));
    const limit = setTimeout(fail, SERVER_MS);
    void ended.then(fail);
    child.stdout.on("data", (chunk) => {
      stdout += chunk;
      if (!stdout.trimEnd().endsWith("}")) return;
      clearTimeout(limit);
      const { uri, exports } = JSON.parse(stdout);
      const kill = () => {
        child.kill("SIGKILL");
        return ended;
      };
      resolve({ uri, found: exports[0].found, end: () => endServer(child, ended), kill });
    });
  });
}

async function endServer(child, ended) {
  child.kill("SIGTERM");
  const limit = setTimeout(() => child.kill("SIGKILL"), SERVER_MS);
  const outcome = await ended;
  clearTimeout(limit);
  return outcome;
}

/** How the tool is told where the server is. */
function target(trial, uri, socket) {
  if (trial.disk) return ["-d", uri];
  return trial.over === "unix" ? [`unix:${socket}`, ""] : [new URL(uri.replace("nbd:", "http:")).host, ""];
}

async function attempt(trial, directory, base, baseSum) {
  const at = (name) => join(directory, name);
  const [cowfile, socket, flat] = [at("vm.cow"), at("sock"), at("flat.img")];
  await cowtool("create", base, cowfile);
  const where = trial.over === "unix" ? ["--socket", socket] : ["--listen", "127.0.0.1:0"];
  const argv = [base, cowfile, ...where, ...(trial.readOnly ? ["--read-only"] : [])];
  let server = await serve(argv);
  const env = { ...trial.env, ...(trial.env.NBD_SCRIPT && { NBD_SCRIPT: at(trial.env.NBD_SCRIPT) }) };
  if (env.NBD_SCRIPT) writeFileSync(env.NBD_SCRIPT, trial.script ?? GUEST_SCRIPT);
  // Only what is made once stays where it is.
  if (trial.ownTemporary)
    Object.assign(env, { TMPDIR: at("tool"), VMC: process.env.VMC ?? join(tmpdir(), "cow-vm-cache") });
  mkdirSync(at("tool"));
  let isOver = false;
  const guest = run("bash", [tool, ...target(trial, server.uri, socket)], env).finally(() => {
    isOver = true;
  });
  const next = () => serve([base, cowfile, "--listen", new URL(server.uri.replace("nbd:", "http:")).host]);
  const disturbed = trial.disturb?.({ directory: at("tool"), server, next, isOver: () => isOver });
  const [{ status, text }, last] = await Promise.all([guest, disturbed]);
  server = last ?? server;
  const ended = await server.end();
  if (status !== 0) throw new Failure(`${text}\nthe server said: ${ended.stderr}`);
  if (ended.status !== 0) throw new Failure(`the server ended with ${ended.status}: ${ended.stderr}`);
  const guestSum = /^SHA256 ([0-9a-f]{64})$/m.exec(text)?.[1];
  await cowtool("merge", "--yes", base, cowfile, "-o", flat);
  if ((await sha256(flat)) !== guestSum) throw new Failure(`the guest read ${guestSum}, cowtool reads another image`);
  await cowtool("check", cowfile, "--rdofile", base);
  const { state } = JSON.parse(await cowtool("info", "--json", cowfile));
  if (state !== "clean") throw new Failure(`the cowfile is ${state}`);
  if ((await sha256(base)) !== baseSum) throw new Failure("the base was written");
  if (trial.readOnly && guestSum !== baseSum) throw new Failure("the guest did not read the base");
  return text.split("\n").filter((line) => /^(ok|note|DEV) /.test(line));
}

async function inTurn(trials, directory, base, baseSum) {
  const waiting = [...trials.entries()];
  let failures = 0;
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const [number, trial] = next;
      const start = performance.now();
      const own = mkdtempSync(join(directory, `${number}-`));
      try {
        const lines = await attempt(trial, own, base, baseSum);
        say(`passed: ${trial.name} (${Math.round((performance.now() - start) / 1000)} s)`);
        for (const line of lines) say(`        ${line}`);
      } catch (error) {
        failures++;
        say(`FAILED: ${trial.name}: ${error instanceof Failure ? error.message : error.stack}`);
      }
      rmSync(own, { recursive: true, force: true });
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, worker));
  return failures;
}

/** The machine's kernel and what is in it, made once; two trials must not make it at the same time. */
function buildMachine() {
  const script = '. "$1" && vm_build';
  return spawnSync("bash", ["-c", script, "bash", join(tool, "..", "vm", "lib.sh")], { stdio: ["ignore", 2, 2] });
}

async function main(wanted) {
  const trials = TRIALS.filter(({ name }) => wanted.length === 0 || wanted.some((part) => name.includes(part)));
  if (!existsSync(tool)) return skip("there is no ../shared/tools/vm-nbd-test.sh");
  // As root the tool installs what it misses; else it can't, and there is no machine.
  if (buildMachine().status !== 0 || spawnSync(MACHINE, ["--version"]).status !== 0)
    return skip("the virtual machine can't be made (qemu-system-x86 and a Debian kernel are needed, see above)");
  const directory = mkdtempSync(join(tmpdir(), "cowtool-vm-"));
  try {
    const base = join(directory, "base.img");
    makeRandomImage(base);
    const failures = await inTurn(trials, directory, base, await sha256(base));
    say(`${trials.length - failures} of ${trials.length} passed`);
    if (failures > 0 || trials.length === 0) process.exitCode = 1;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});
for (const [signal, status] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
])
  process.once(signal, () => process.exit(status));
await main(process.argv.slice(2));
