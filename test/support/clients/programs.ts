/**
 * Owns other people's programs as tests run them: found or missed by name, run within a limit, their output as text.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { skipsLoudly } from "../command/real-process.ts";

const LIMIT_MS = 60_000;

export interface ClientResult {
  readonly stdout: string;
  readonly stderr: string;
  /** undefined if a signal ended it, such as ours after the limit. */
  readonly status: number | undefined;
}

/** Where a program is; system programs are found although they may not be on a user's PATH. */
function found(program: string): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  return folders.map((folder) => join(folder, program)).find((path) => existsSync(path));
}

/** Says which of the programs are missing, if any, and returns whether the tests are to be skipped. */
export function missesClients(what: string, ...programs: readonly string[]): boolean {
  const missing = programs.filter((program) => found(program) === undefined);
  return skipsLoudly(missing.length > 0, `${what}: no ${missing.join(", ")}`);
}

/** Runs a program to its end, whatever that is; stdin is empty. */
export function runClient(program: string, args: readonly string[]): Promise<ClientResult> {
  const child = spawn(found(program) ?? program, args, {
    env: { ...process.env, LC_ALL: "C.UTF-8" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk;
  });
  const limit = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS);
  return new Promise((resolve, reject) => {
    child.once("error", reject).once("close", (status) => {
      clearTimeout(limit);
      resolve({ stdout, stderr, status: status ?? undefined });
    });
  });
}

/** Runs a program that must succeed, and returns its standard output. */
export async function client(program: string, ...args: readonly string[]): Promise<string> {
  const { stdout, stderr, status } = await runClient(program, args);
  if (status !== 0)
    throw new Error(`${program} ${args.join(" ")} ended with ${status ?? "a signal"}:\n${stdout}${stderr}`);
  return stdout;
}
