/**
 * Owns the real program as a process that tests watch, signal, kill and deprive of its streams; every one of them ends
 * within a limit. Must not know what a command does. Plain runs are in run-command.ts.
 */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import type { Ran } from "./command-harness.ts";
import { ROOT } from "./run-command.ts";

/** A hang is a failure, and must not become one of the whole suite. */
const LIMIT_MS = 30_000;

export interface StartOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly stdio?: SpawnOptions["stdio"];
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
  /** Resolves when stderr has said something that matches, or with false when the process has ended. */
  says(pattern: RegExp): Promise<boolean>;
}

/** Starts bin/run.js, as published, without DEBUG; stdin is empty. */
export function start(argv: readonly string[], options: StartOptions = {}): Started {
  const { DEBUG: _, ...inherited } = process.env;
  const startMs = performance.now();
  const child = spawn(process.execPath, [`${ROOT}/bin/run.js`, ...argv], {
    env: { ...inherited, ...options.env },
    stdio: options.stdio ?? ["ignore", "pipe", "pipe"],
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
  });
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
  }, LIMIT_MS);
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
  return { child, ended, says };
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
