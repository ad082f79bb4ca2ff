/**
 * Owns the real program as a process that tests watch, signal, kill and deprive of its streams; every one of them ends
 * within a limit. Must not know what a command does.
 */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import type { Ran } from "./harness.ts";
import { ROOT } from "./run-command.ts";

/** A hang is a failure, and must not become one of the whole suite. */
const LIMIT_MS = 30_000;

export interface StartOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** All of them, or beyond the first three sockets that are handed down. */
  readonly stdio?: SpawnOptions["stdio"];
  /** What it gets on stdin, which is empty otherwise. */
  readonly input?: string;
  readonly cwd?: string;
  /** A program, with its arguments, that becomes ours: `prlimit --fsize=…`. */
  readonly through?: readonly string[];
  /** The process is to be told its own id in this variable, as a service manager does. */
  readonly pidIn?: string;
  /** It is killed when it has not ended by then. */
  readonly limitMs?: number;
  /** User and group to run as; only root may. */
  readonly uid?: number;
}

export interface Ended extends Ran {
  readonly signal: NodeJS.Signals | undefined;
  readonly timedOut: boolean;
  readonly ms: number;
}

export interface Started {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** What it said on stdout and stderr so far. */
  readonly said: () => string;
  readonly complained: () => string;
  /** Resolves when stderr has said something that matches, or with false when the process has ended. */
  says(pattern: RegExp): Promise<boolean>;
}

/** Starts bin/run.js, as published, without DEBUG. */
export function start(argv: readonly string[], options: StartOptions = {}): Started {
  const { DEBUG: _, ...inherited } = process.env;
  const startMs = performance.now();
  const program = [process.execPath, `${ROOT}/bin/run.js`, ...argv];
  // exec keeps the process id, which only the process itself knows before it runs.
  const direct = [...(options.through ?? []), ...program];
  const line = options.pidIn === undefined ? direct : ["sh", "-c", `${options.pidIn}=$$ exec "$@"`, "sh", ...program];
  const child = spawn(line[0] ?? "", line.slice(1), {
    env: { ...inherited, ...options.env },
    stdio: options.stdio ?? [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
  });
  if (options.input !== undefined) child.stdin?.end(options.input);
  let [stdout, stderr, timedOut] = ["", "", false];
  const waiting = new Set<() => void>();
  child.stdout?.on("data", (chunk: Buffer) => {
    stdout += chunk;
  });
  child.stderr?.on("data", (chunk: Buffer) => {
    stderr += chunk;
    for (const look of waiting) look();
  });
  const limit = setTimeout(() => {
    timedOut = true;
    child.kill("SIGKILL");
  }, options.limitMs ?? LIMIT_MS);
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once("error", reject).once("close", (status, signal) => {
      clearTimeout(limit);
      const ms = performance.now() - startMs;
      resolve({ stdout, stderr, status: status ?? undefined, signal: signal ?? undefined, timedOut, ms });
    });
  });
  const says = (pattern: RegExp): Promise<boolean> =>
    new Promise((resolve) => {
      const look = (): void => {
        if (!pattern.test(stderr)) return;
        waiting.delete(look);
        resolve(true);
      };
      waiting.add(look);
      void ended.then(() => resolve(pattern.test(stderr)));
      look();
    });
  return { child, ended, said: () => stdout, complained: () => stderr, says };
}

/** Starts bin/run.js and waits for its end. */
export function finish(argv: readonly string[], options?: StartOptions): Promise<Ended> {
  return start(argv, options).ended;
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Does work for each item, `limit` at a time; the first failure is thrown once the work under way has ended. */
export async function atOnce<Item>(
  limit: number,
  items: readonly Item[],
  work: (item: Item, index: number) => Promise<void>,
): Promise<void> {
  const failures: unknown[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length && failures.length === 0) {
      const index = next++;
      await work(items[index] as Item, index).catch((error: unknown) => failures.push(error));
    }
  };
  await Promise.all(Array.from({ length: limit }, worker));
  if (failures.length > 0) throw failures[0];
}

/** Says on stderr that tests are skipped, and why; returns whether they are. */
export function skipsLoudly(isMissing: boolean, what: string): boolean {
  if (isMissing) process.stderr.write(`SKIPPED: ${what}\n`);
  return isMissing;
}
