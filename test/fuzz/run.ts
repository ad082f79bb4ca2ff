/**
 * Owns the time-boxed loop over targets and seeds. What failed is told with target and seed, which is all that it takes
 * to see it again; such pairs are kept in corpus.json and tried first.
 *
 *   node test/fuzz/run.ts [--seed N] [--minutes M] [--target NAME]
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { random } from "../support/random.ts";
import { TARGETS } from "./targets.ts";

export interface Failure {
  readonly target: string;
  readonly seed: number;
  readonly error: unknown;
}

/** Runs one case; undefined if all is well. */
export async function tryOne(target: string, seed: number): Promise<Failure | undefined> {
  try {
    await TARGETS[target]?.(random(seed));
    return undefined;
  } catch (error) {
    return { target, seed, error };
  }
}

/** Cases that failed once. */
export function corpus(): readonly { readonly target: string; readonly seed: number }[] {
  return JSON.parse(readFileSync(new URL("corpus.json", import.meta.url), "utf8"));
}

/** Tries targets in turn until the time is up. */
export async function fuzz(
  firstSeed: number,
  ms: number,
  names: readonly string[] = Object.keys(TARGETS),
): Promise<{ readonly cases: number; readonly failures: readonly Failure[] }> {
  const end = performance.now() + ms;
  const failures: Failure[] = [];
  let cases = 0;
  for (let seed = firstSeed; performance.now() < end && failures.length < 10; seed++) {
    for (const name of names) {
      const failure = await tryOne(name, seed);
      cases++;
      if (failure) failures.push(failure);
    }
  }
  return { cases, failures };
}

/** What is told of a failure; never the input itself, which may be long. */
export function describeFailure({ target, seed, error }: Failure): string {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `${target}, seed ${seed}: ${text.split("\n").slice(0, 6).join("\n").slice(0, 800)}`;
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { seed: { type: "string" }, minutes: { type: "string" }, target: { type: "string" } },
  });
  const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
  const names = values.target === undefined ? undefined : [values.target];
  const { cases, failures } = await fuzz(seed, Number(values.minutes ?? 1) * 60_000, names);
  for (const failure of failures) process.stdout.write(`${describeFailure(failure)}\n`);
  process.stdout.write(`${cases} cases from seed ${seed}, ${failures.length} failures\n`);
  if (failures.length > 0) process.exitCode = 1;
}
