/**
 * Owns how tests run one command class in this process. The real program in its own is real-process.ts' business.
 */
import { fileURLToPath } from "node:url";
import type { Command } from "@oclif/core";
import { Config } from "@oclif/core";
import type { Terminal } from "../../../src/cli/terminal.ts";
import { type FakeTerminal, fakeTerminal } from "./fake-terminal.ts";

export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));

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
