/**
 * Owns `cowtool serve` as a process of a test file: started as people start it, watched from outside (memory,
 * descriptors), ended or killed by its process id, and gone with the test file. A server in the test's own process is
 * nbd-test-server.ts' business.
 */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { afterAll } from "vitest";
import { type Ended, pause } from "./real-process.ts";
import { ROOT } from "./run-command.ts";

/** A hang is a failure, and must not become one of the whole suite. */
const LIMIT_MS = 150_000;
const WATCH_MS = 20;

export interface ProgramOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Beyond the first three: sockets that are handed down. Or all of them. */
  readonly stdio?: SpawnOptions["stdio"];
  readonly cwd?: string;
  /** The process is to be told its own id in this variable, as a service manager does. */
  readonly pidIn?: string;
  /** A program, with its arguments, that becomes ours: `prlimit --fsize=…`. */
  readonly through?: readonly string[];
}

export interface ServeProgram {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly ended: Promise<Ended>;
  /** What it said on stdout so far: its ready lines, or its ready object. */
  readonly said: () => string;
  readonly complained: () => string;
  /** Resident memory. */
  readonly rssMib: () => number;
  /** Open descriptors. */
  readonly descriptors: () => number;
  /** Sends a signal and waits for the end. */
  readonly stop: (signal?: NodeJS.Signals) => Promise<Ended>;
}

const running = new Set<ChildProcess>();

/** Starts `cowtool serve`; does not wait for it to be ready. */
export function launch(argv: readonly string[], options: ProgramOptions = {}): ServeProgram {
  const { DEBUG: _, ...inherited } = process.env;
  const startMs = performance.now();
  const program = [process.execPath, `${ROOT}/bin/run.js`, "serve", ...argv];
  // exec keeps the process id, which only the process itself knows before it runs.
  const direct = [...(options.through ?? []), ...program];
  const line = options.pidIn === undefined ? direct : ["sh", "-c", `${options.pidIn}=$$ exec "$@"`, "sh", ...program];
  const child = spawn(line[0] ?? "", line.slice(1), {
    env: { ...inherited, ...options.env },
    stdio: options.stdio ?? ["ignore", "pipe", "pipe"],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  running.add(child);
  let [stdout, stderr, timedOut] = ["", "", false];
  child.stdout?.on("data", (chunk: Buffer) => {
    stdout += chunk;
  });
  child.stderr?.on("data", (chunk: Buffer) => {
    stderr += chunk;
  });
  const limit = setTimeout(() => {
    timedOut = true;
    child.kill("SIGKILL");
  }, LIMIT_MS);
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once("error", reject).once("close", (status, signal) => {
      clearTimeout(limit);
      running.delete(child);
      const ms = performance.now() - startMs;
      resolve({ stdout, stderr, status: status ?? undefined, signal: signal ?? undefined, timedOut, ms });
    });
  });
  const pid = child.pid ?? 0;
  return {
    child,
    pid,
    ended,
    said: () => stdout,
    complained: () => stderr,
    rssMib: () => Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]) / 1024,
    descriptors: () => readdirSync(`/proc/${pid}/fd`).length,
    stop: (signal = "SIGTERM") => {
      child.kill(signal);
      return ended;
    },
  };
}

/** Starts `cowtool serve` and waits until it says that it is ready. Throws what it says instead. */
export async function serveProgram(argv: readonly string[], options: ProgramOptions = {}): Promise<ServeProgram> {
  const server = launch(argv, options);
  let over: Ended | undefined;
  void server.ended.then((ended) => {
    over = ended;
  });
  // A server that was handed its sockets leaves stdout to whoever started it.
  const isActivated = options.pidIn !== undefined;
  const isReady = (): boolean => isWhole((isActivated ? server.complained : server.said)(), argv.includes("--json"));
  const waited = until(() => isReady() || over !== undefined, "the ready line");
  await new Promise<void>((resolve, reject) => {
    for (const stream of [server.child.stdout, server.child.stderr]) stream?.on("data", () => isReady() && resolve());
    waited.then(resolve, reject);
  });
  if (over) throw new Error(`serve ended with ${over.status ?? over.signal}: ${over.stderr}`);
  return server;
}

function isWhole(text: string, isJson: boolean): boolean {
  if (!text.endsWith("\n")) return false;
  if (!isJson) return true;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Waits for something to become true; throws if it does not in time. */
export async function until(holds: () => boolean | Promise<boolean>, what: string, ms = 20_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`waited for ${what} in vain`);
    await pause(WATCH_MS);
  }
}

/** The port in the NBD URI that a server printed. */
export function portOf(uri: string): number {
  return Number(/^nbds?:\/\/[^/]*:(\d+)\//.exec(uri)?.[1]);
}

afterAll(async () => {
  for (const child of running) child.kill("SIGKILL");
  await until(() => running.size === 0, "the servers of this test file to be gone");
});
