/**
 * Owns how tests run cowtool: one command class in this process, or the real program in its own.
 */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Command } from "@oclif/core";
import { Config } from "@oclif/core";
import type { Terminal } from "../../src/cli/terminal.ts";
import { type FakeTerminal, fakeTerminal } from "./fake-terminal.ts";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

let config: Promise<Config> | undefined;

/** A configuration without commands: a class run by hand needs none, and dist needn't exist. */
function bareConfig(): Promise<Config> {
  config ??= Config.load({
    root: ROOT,
    pjson: { name: "cowtool", version: "0.0.0", oclif: { bin: "cowtool", dirname: "cowtool" } },
    ignoreManifest: true,
  });
  return config;
}

/** What the tests use of an instance; `_run` is what oclif calls. */
type Runnable = new (argv: string[], config: Config) => { terminal: Terminal; _run(): Promise<unknown> };

/** Runs a command class (one that extends BaseCommand) as oclif would, on a fake terminal. */
export async function runCommand(
  commandClass: typeof Command,
  argv: readonly string[],
  terminal: FakeTerminal = fakeTerminal(),
): Promise<FakeTerminal> {
  commandClass.id ??= commandClass.name.toLowerCase();
  const command = new (commandClass as unknown as Runnable)([...argv], await bareConfig());
  command.terminal = terminal;
  await command._run();
  return terminal;
}

export interface ProgramResult {
  readonly stdout: string;
  readonly stderr: string;
  /** The exit status, or undefined when a signal ended it. */
  readonly status: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
}

export interface ProgramOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
}

/** Runs bin/run.js, as published, in its own process; stdin is empty unless given. */
export function runProgram(argv: readonly string[], options: ProgramOptions = {}): Promise<ProgramResult> {
  const child = spawn(process.execPath, [`${ROOT}/bin/run.js`, ...argv], {
    cwd: options.cwd ?? ROOT,
    env: { ...process.env, ...options.env },
  });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
  child.stdin.end(options.input ?? "");
  return new Promise((resolve, reject) => {
    child.once("error", reject).once("close", (status, signal) => {
      resolve({
        stdout: Buffer.concat(out).toString(),
        stderr: Buffer.concat(err).toString(),
        status: status ?? undefined,
        signal: signal ?? undefined,
      });
    });
  });
}
