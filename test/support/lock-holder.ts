/**
 * Owns a second process that holds a writer's lock on a file, taken through the library, until it is told to let go.
 * Run as a program this file is that process: a line on stdin names the file (JSON), an empty one unlocks.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { nodeStorage } from "../../src/lib/index.ts";

export interface LockHolder {
  readonly pid: number;
  /** Its command line, as /proc shows it. */
  readonly command: string;
  lock(file: string): Promise<void>;
  unlock(): Promise<void>;
  end(): Promise<void>;
}

const SELF = fileURLToPath(import.meta.url);

/** @param portable the holder has no system calls, and so locks by lock files */
export async function holdLocks(portable: boolean): Promise<LockHolder> {
  const child = spawn(process.execPath, [SELF], {
    env: { ...process.env, COWTOOL_NO_FFI: portable ? "1" : "" },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ask = async (line: string): Promise<void> => {
    child.stdin.write(`${line}\n`);
    const { value } = await answers.next();
    if (value !== "done") throw new Error(`the lock holder says ${value}`);
  };
  await ask("");
  return {
    pid: child.pid ?? 0,
    command: readFileSync(`/proc/${child.pid}/cmdline`, "utf8").split("\0").filter(Boolean).join(" "),
    lock: (file) => ask(JSON.stringify(file)),
    unlock: () => ask(""),
    end: () =>
      new Promise((resolve) => {
        child.once("close", () => resolve());
        child.stdin.end();
      }),
  };
}

if (process.argv[1] === SELF) {
  let held: { close(): void } | undefined;
  for await (const line of createInterface({ input: process.stdin })) {
    held?.close();
    held =
      line === "" ? undefined : nodeStorage.open(JSON.parse(line) as string, { writable: true, lock: "exclusive" });
    process.stdout.write("done\n");
  }
  held?.close();
}
