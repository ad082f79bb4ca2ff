/**
 * Owns `cowtool serve` as a process that other people's clients are let loose on: started as published, known by its
 * ready object, ended by its process id. Knows nothing of the clients.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { afterAll } from "vitest";
import { ROOT } from "./run-command.ts";

/** A server that isn't ready by then, or has not ended by then, hangs. */
const LIMIT_MS = 30_000;

export interface Served {
  /** Of the first export. */
  readonly uri: string;
  /** Of each export, by name. */
  readonly uris: ReadonlyMap<string, string>;
  readonly pid: number;
  /** What it said on stderr so far. */
  readonly said: () => string;
  /** Ends it in order; resolves with its exit status. */
  stop(): Promise<number | null>;
  /** Ends it as a crash would. */
  kill(): Promise<void>;
}

interface ReadyObject {
  readonly uri: string;
  readonly pid: number;
  readonly exports: readonly { readonly name: string; readonly uri: string }[];
}

const running = new Set<ChildProcess>();

afterAll(() => {
  for (const child of running) child.kill("SIGKILL");
});

/** Starts `cowtool serve` and waits until it is ready. It ends with the test file at the latest. */
export async function startServe(argv: readonly string[]): Promise<Served> {
  const { DEBUG: _, ...env } = process.env;
  const child = spawn(process.execPath, [`${ROOT}/bin/run.js`, "serve", "--json", ...argv], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  let [stdout, stderr] = ["", ""];
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk;
  });
  const ended = new Promise<number | null>((resolve) => {
    child.once("close", (status) => {
      running.delete(child);
      resolve(status);
    });
  });
  const ready = await new Promise<ReadyObject>((resolve, reject) => {
    const fail = (): void => reject(new Error(`cowtool serve ${argv.join(" ")} is not ready: ${stdout}${stderr}`));
    const limit = setTimeout(fail, LIMIT_MS);
    void ended.then(() => {
      clearTimeout(limit);
      fail();
    });
    child.stdout.on("data", (chunk: Buffer) => {
      stdout += chunk;
      const parsed = parsedOrUndefined(stdout);
      if (!parsed) return;
      clearTimeout(limit);
      resolve(parsed);
    });
  });
  const end = async (signal: NodeJS.Signals): Promise<number | null> => {
    const limit = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS);
    child.kill(signal);
    const status = await ended;
    clearTimeout(limit);
    return status;
  };
  return {
    uri: ready.uri,
    uris: new Map(ready.exports.map(({ name, uri }) => [name, uri])),
    pid: ready.pid,
    said: () => stderr,
    stop: () => end("SIGTERM"),
    kill: async () => {
      await end("SIGKILL");
    },
  };
}

function parsedOrUndefined(text: string): ReadyObject | undefined {
  try {
    return JSON.parse(text) as ReadyObject;
  } catch {
    return undefined;
  }
}
