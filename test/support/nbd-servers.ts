/**
 * Owns NBD servers that others wrote (nbdkit, qemu-nbd), as processes of a test file: on Unix sockets in a scratch
 * directory, ended by their process ids. Knows nothing of our client.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { connect } from "node:net";
import { afterAll } from "vitest";
import { pause } from "./real-process.ts";

const START_MS = 15_000;

export interface NbdServer {
  readonly socket: string;
  readonly pid: number;
  /** Resolves once it has ended. */
  kill(): Promise<void>;
}

/** Is a program there? */
export function hasProgram(name: string): boolean {
  return spawnSync("sh", ["-c", `command -v ${name}`]).status === 0;
}

/** A URI of a server on a Unix socket. */
export function uriOf(socket: string, { name = "", query = "", tls = false } = {}): string {
  return `nbd${tls ? "s" : ""}+unix:///${encodeURIComponent(name)}?socket=${encodeURIComponent(socket)}${query}`;
}

const running = new Set<NbdServer>();

/** Starts a program that will listen on `socket`, and waits until it does. All end with the test file. */
async function startServer(program: string, args: readonly string[], socket: string): Promise<NbdServer> {
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr?.on("data", (bytes: Buffer) => {
    said = (said + bytes.toString()).slice(-4096);
  });
  const ended = new Promise<void>((resolve) => {
    child.once("close", () => resolve()).once("error", () => resolve());
  });
  const server = { socket, pid: child.pid ?? 0, kill: () => end(child, ended) };
  running.add(server);
  const until = performance.now() + START_MS;
  while (!(await listens(socket))) {
    if (child.exitCode !== null || performance.now() > until) throw new Error(`${program} does not listen: ${said}`);
    await pause(20);
  }
  return server;
}

async function end(child: ChildProcess, ended: Promise<void>): Promise<void> {
  child.kill("SIGKILL");
  await ended;
}

function listens(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const client = connect(socket);
    client.once("connect", () => {
      client.destroy();
      resolve(true);
    });
    client.once("error", () => resolve(false));
  });
}

/** nbdkit with filters, plugin and their parameters; on a socket, in the foreground. */
export function startNbdkit(socket: string, args: readonly string[]): Promise<NbdServer> {
  return startServer("nbdkit", ["-f", "-U", socket, ...args], socket);
}

/** qemu-nbd for several clients, one after another or at once. */
export function startQemuNbd(socket: string, args: readonly string[]): Promise<NbdServer> {
  return startServer("qemu-nbd", ["-t", "-e", "8", "-k", socket, ...args], socket);
}

afterAll(async () => {
  await Promise.all([...running].map((server) => server.kill()));
});
