/**
 * Owns the proof that `cowtool serve` refuses a command line by one clear error, the same for people and as JSON. The
 * command runs in this process, which takes milliseconds; where that would prove less, in its own.
 */
import { expect } from "vitest";
import { expectErrorJson, expectErrorLine, type Ran, run } from "../command/harness.ts";
import { launch } from "./program.ts";

/** @param env runs it as a program, with these variables @returns the code of the error, a colon, the error line */
export async function serveRefusal(
  argv: readonly string[],
  status: number,
  env?: Readonly<Record<string, string>>,
): Promise<string> {
  const attempt = (...flags: string[]): Promise<Ran> =>
    env ? launch([...argv, ...flags], { env }).ended : run("serve", [...argv, ...flags]);
  // One after the other: they would be in each other's way.
  const line = expectErrorLine(await attempt(), status);
  const { message, code } = expectErrorJson(await attempt("--json"), status);
  expect(line).toContain(message);
  return `${code}: ${line}`;
}
