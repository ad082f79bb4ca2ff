/**
 * Owns `cowtool serve` as a process of a test file: started as people start it, watched from outside (memory,
 * descriptors), ended or killed by its process id, and gone with the test file. A server in the test's own process is
 * test-server.ts' business.
 */
import type { ChildProcess } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { afterAll } from "vitest";
import { type Ended, pause, type Started, type StartOptions, start } from "../command/real-process.ts";

/** A hang is a failure, and must not become one of the whole suite. */
const LIMIT_MS = 150_000;
const WATCH_MS = 20;

/** What it said on stdout so far is its ready lines, or its ready object. */
export interface ServeProgram extends Started {
  readonly pid: number;
  /** Resident memory. */
  readonly rssMib: () => number;
  /** Open descriptors. */
  readonly descriptors: () => number;
  /** Sends a signal and waits for the end. */
  readonly stop: (signal?: NodeJS.Signals) => Promise<Ended>;
}

const running = new Set<ChildProcess>();

/** Starts `cowtool serve`; does not wait for it to be ready. */
export function launch(argv: readonly string[], options: StartOptions = {}): ServeProgram {
  const started = start(["serve", ...argv], { limitMs: LIMIT_MS, ...options });
  const { child, ended } = started;
  running.add(child);
  void ended.then(
    () => running.delete(child),
    () => running.delete(child),
  );
  const pid = child.pid ?? 0;
  return {
    ...started,
    pid,
    rssMib: () => Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]) / 1024,
    descriptors: () => readdirSync(`/proc/${pid}/fd`).length,
    stop: (signal = "SIGTERM") => {
      child.kill(signal);
      return ended;
    },
  };
}

/** Starts `cowtool serve` and waits until it says that it is ready. Throws what it says instead. */
export async function serveProgram(argv: readonly string[], options: StartOptions = {}): Promise<ServeProgram> {
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
