/**
 * Owns NBD servers that others wrote (nbdkit, qemu-nbd), as processes of a test file: on Unix sockets in a scratch
 * directory, ended by their process ids. Knows nothing of our client.
 */
import { spawn, spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { afterAll } from "vitest";
import { pause } from "../command/real-process.ts";

const START_MS = 15_000;

export interface NbdServer {
  readonly socket: string;
  readonly pid: number;
  /** The end of what it wrote to stderr so far. */
  readonly said: () => string;
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

/**
 * Starts a program that will listen on `socket`, and waits until it has written its `pidFile`, which both do once they
 * listen: a connection made only to see whether somebody is there would be its first client, and leave in the middle of
 * the handshake. All end with the test file; one that ended by itself is told with what it said, since what fails then
 * is somewhere else.
 */
async function startServer(
  program: string,
  args: readonly string[],
  { socket, pidFile }: { readonly socket: string; readonly pidFile: string },
): Promise<NbdServer> {
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  let isStopped = false;
  child.stderr?.on("data", (bytes: Buffer) => {
    said = (said + bytes.toString()).slice(-4096);
  });
  const ended = new Promise<void>((resolve) => {
    child.once("close", () => resolve()).once("error", () => resolve());
  });
  const kill = async (): Promise<void> => {
    isStopped = true;
    child.kill("SIGKILL");
    await ended;
  };
  void ended.then(() => {
    if (!isStopped) process.stderr.write(`${program} ended with ${child.signalCode ?? child.exitCode}: ${said}\n`);
  });
  const server = { socket, pid: child.pid ?? 0, said: () => said, kill };
  running.add(server);
  const until = performance.now() + START_MS;
  while (!hasPid(pidFile)) {
    if (child.exitCode !== null || performance.now() > until) throw new Error(`${program} does not listen: ${said}`);
    await pause(20);
  }
  return server;
}

function hasPid(path: string): boolean {
  try {
    return readFileSync(path, "latin1").endsWith("\n");
  } catch {
    return false;
  }
}

/** nbdkit with filters, plugin and their parameters; on a socket, in the foreground. */
export function startNbdkit(socket: string, args: readonly string[]): Promise<NbdServer> {
  const pidFile = freshPidFile(socket);
  return startServer("nbdkit", ["-f", "-P", pidFile, "-U", socket, ...args], { socket, pidFile });
}

/** qemu-nbd for several clients, one after another or at once. */
export function startQemuNbd(socket: string, args: readonly string[]): Promise<NbdServer> {
  const pidFile = freshPidFile(socket);
  return startServer("qemu-nbd", ["-t", "-e", "8", "--pid-file", pidFile, "-k", socket, ...args], { socket, pidFile });
}

/** Beside the socket; one that a killed server left would speak of the next one. */
function freshPidFile(socket: string): string {
  const path = `${socket}.pid`;
  rmSync(path, { force: true });
  return path;
}

afterAll(async () => {
  await Promise.all([...running].map((server) => server.kill()));
});
