/**
 * Owns the servers that are measured: how each gets a fresh overlay over a base, how it is started, found ready and
 * ended. Each has a directory of its own, which is empty before and gone after.
 *
 * A place to listen is `{ unix: path }` or `{ port: number }`; a base is `{ file: path }` or `{ socket: path }`, an export
 * of another server. `keys` is a file of pre-shared keys, and means TLS.
 */
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { dirname, join } from "node:path";
import { must, pause } from "./measure.mjs";
import { find, has, ROOT } from "./programs.mjs";

const READY_MS = 60_000;
const END_MS = 20_000;

const baseUri = (base) => (base.file ? base.file : `nbd+unix:///?socket=${base.socket}`);

export const cowtoolCommand = (...args) => [process.execPath, join(ROOT, "bin/run.js"), ...args];

function cowtoolListen({ listen, keys }) {
  const where = listen.unix ? ["--socket", listen.unix] : ["--listen", `127.0.0.1:${listen.port}`];
  return keys ? [...where, "--tls-psk", keys] : where;
}

/** A server of a stack that is there already. */
export const serveStack = (stack, options) => cowtoolCommand("serve", ...stack, ...cowtoolListen(options));

async function createCowfile({ dir, base }) {
  const [command, ...args] = cowtoolCommand("create", baseUri(base), join(dir, "c.cow"));
  await must(command, args);
}

async function createQcow2({ dir, base }) {
  const image = ["create", "-q", "-f", "qcow2", "-b", baseUri(base), "-F", "raw", join(dir, "q.qcow2")];
  await must("qemu-img", image);
}

function qemuCommand({ dir, listen, keys }) {
  const where = listen.unix ? ["-k", listen.unix] : ["-b", "127.0.0.1", "-p", String(listen.port)];
  const psk = `tls-creds-psk,id=keys,endpoint=server,dir=${keys && dirname(keys)}`;
  const tls = keys ? ["--object", psk, "--tls-creds", "keys"] : [];
  return ["qemu-nbd", "-t", "-f", "qcow2", "--shared=16", ...where, ...tls, join(dir, "q.qcow2")];
}

function nbdkitCommand({ listen, keys, base }, ...more) {
  const where = listen.unix ? ["-U", listen.unix] : ["-i", "127.0.0.1", "-p", String(listen.port)];
  const tls = keys ? ["--tls=require", `--tls-psk=${keys}`] : [];
  const below = base.file ? ["file", base.file] : ["nbd", `socket=${base.socket}`];
  return ["nbdkit", "-f", ...where, ...tls, "--filter=cow", ...below, ...more];
}

function writeNbdServerConfig({ dir, base, listen }) {
  const where = listen.unix ? `unixsock=${listen.unix}` : `listenaddr=127.0.0.1\nport=${listen.port}`;
  mkdirSync(join(dir, "diffs"));
  writeFileSync(
    join(dir, "config"),
    `[generic]\n${where}\nallowlist=true\n[disk]\nexportname=${base.file}\ncopyonwrite=true\ncowdir=${join(dir, "diffs")}\n`,
  );
}

/** `can` says what a server can be asked for beyond a unix socket over a file. */
const SERVERS = [
  {
    name: "qemu",
    title: "qemu-nbd",
    kind: "peer",
    needs: ["qemu-nbd", "qemu-img"],
    can: ["tcp", "tls", "remote", "slow", "copy"],
    prepare: createQcow2,
    command: qemuCommand,
  },
  {
    name: "nbdkit",
    title: "nbdkit cow",
    kind: "peer",
    needs: ["nbdkit"],
    can: ["tcp", "tls", "remote", "copy"],
    command: (options) => nbdkitCommand(options),
  },
  {
    name: "nbdkit4k",
    title: "nbdkit cow 4k",
    kind: "peer",
    needs: ["nbdkit"],
    can: ["tcp", "tls", "remote", "slow", "copy"],
    command: (options) => nbdkitCommand(options, "cow-block-size=4k"),
  },
  {
    name: "nbdserver",
    title: "nbd-server",
    kind: "peer",
    needs: ["nbd-server"],
    can: ["tcp", "copy"],
    exportName: "disk",
    prepare: writeNbdServerConfig,
    command: ({ dir }) => ["nbd-server", "-C", join(dir, "config"), "-p", join(dir, "pid")],
    pidFile: "pid",
  },
  {
    name: "cowtool",
    title: "cowtool",
    kind: "ours",
    needs: [],
    can: ["tcp", "tls", "remote", "slow", "copy"],
    prepare: createCowfile,
    command: (options) => serveStack([baseUri(options.base), join(options.dir, "c.cow")], options),
  },
  {
    name: "bare",
    title: "bare C",
    kind: "limit",
    needs: ["gcc"],
    can: ["tcp"],
    command: ({ bare, listen, base, dir }) => [
      bare,
      listen.unix ?? String(listen.port),
      base.file,
      join(dir, "writes.img"),
    ],
  },
];

export const PEERS = SERVERS.filter(({ kind }) => kind === "peer").map(({ name }) => name);

/** The servers that can run here; `wanted` limits the peers. @returns [those that can, those that can't] */
export function availableServers(wanted) {
  const asked = SERVERS.filter(({ kind, name }) => kind === "ours" || !wanted || wanted.includes(name));
  return [asked.filter(({ needs }) => has(...needs)), asked.filter(({ needs }) => !has(...needs))];
}

/** A TCP port that is free now. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Whether somebody who speaks NBD answers there. */
function greets(listen) {
  return new Promise((resolve) => {
    const socket = listen.unix ? connect(listen.unix) : connect(listen.port, "127.0.0.1");
    const say = (answer) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(5000, () => say(false));
    socket.once("error", () => say(false));
    socket.once("close", () => resolve(false));
    socket.once("data", (bytes) => say(bytes.subarray(0, 8).toString() === "NBDMAGIC"));
  });
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

async function endOf(pid, limitMs) {
  const end = performance.now() + limitMs;
  while (isAlive(pid) && performance.now() < end) await pause(10);
  return !isAlive(pid);
}

function signal(pid, name) {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended.
  }
}

/** Ids of servers under way, so that none outlives a benchmark that fails or is interrupted. */
const running = new Set();

export function killAll(name) {
  for (const pid of running) signal(pid, name);
}

/**
 * Starts a command line and waits until it answers at `listen`. `daemonPid` is a file in which it tells its id, if it
 * goes into the background.
 */
export async function launch([program, ...args], { listen, log, daemonPid, env = {}, ready = () => greets(listen) }) {
  const output = openSync(log, "a");
  const child = spawn(find(program) ?? program, args, {
    stdio: ["ignore", output, output],
    env: { ...process.env, ...env },
  });
  closeSync(output);
  let failure;
  child.on("error", (error) => {
    failure = error;
  });
  let pid = child.pid;
  if (pid) running.add(pid);
  const tell = () =>
    new Error(`${program} ${args.join(" ")}: ${failure?.message ?? readFileSync(log, "utf8").slice(-1500)}`);
  const end = performance.now() + READY_MS;
  while (!(await ready())) {
    const isGone = failure || (!daemonPid && child.exitCode !== null);
    if (isGone || performance.now() > end) {
      if (pid) signal(pid, "SIGKILL");
      throw tell();
    }
    await pause(2);
  }
  if (daemonPid) {
    pid = Number(readFileSync(daemonPid, "utf8"));
    running.add(pid);
  }
  return {
    pid,
    listen,
    kill: () => {
      signal(pid, "SIGKILL");
      return endOf(pid, END_MS).then(() => running.delete(pid));
    },
    stop: async () => {
      signal(pid, "SIGTERM");
      if (!(await endOf(pid, END_MS))) signal(pid, "SIGKILL");
      await endOf(pid, END_MS);
      running.delete(pid);
    },
  };
}

/** Starts a server over a fresh overlay. Its `stop` also removes everything it wrote, before that goes to disk by itself. */
export async function startServer(server, { work, base, tcp = false, keys, bare, smoke = false }) {
  const dir = join(work, server.name);
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir);
  const listen = tcp ? { port: await freePort() } : { unix: join(dir, "s") };
  const options = { dir, base, listen, keys, bare };
  await server.prepare?.(options);
  const started = await launch(server.command(options), {
    listen,
    log: join(work, `${server.name}.log`),
    daemonPid: server.pidFile && join(dir, server.pidFile),
    env: { TMPDIR: dir },
  });
  if (!smoke) await pause(150); // threads that it starts ahead of need are no part of the first client's time
  return {
    ...started,
    exportName: server.exportName ?? "",
    stop: async () => {
      await started.stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Serves a file as it is: the base of those whose base is an export. `more` are filters and their settings. */
export function startBaseServer({ work, file, name = "base", filters = [], settings = [] }) {
  const socket = join(work, `${name}.sock`);
  rmSync(socket, { force: true });
  const command = ["nbdkit", "-f", "-r", "-U", socket, ...filters.map((each) => `--filter=${each}`), "file", file];
  return launch([...command, ...settings], { listen: { unix: socket }, log: join(work, `${name}.log`) }).then(
    (server) => ({ ...server, socket }),
  );
}
