/**
 * Owns what a run of the suite tries of very many cases: a sample that follows from a seed, or all of them.
 *
 * COWTOOL_SEED names another seed, and COWTOOL_EXHAUSTIVE=1 has everything tried.
 */
import { random } from "./random.ts";

const given = process.env["COWTOOL_SEED"];

/** The same in every run unless another one is asked for. */
export const SEED = Number(given ?? 1);
export const isExhaustive = process.env["COWTOOL_EXHAUSTIVE"] !== undefined;

/** For titles of tests: how to have the same again. */
export const HOW = isExhaustive ? "all" : `a sample: COWTOOL_SEED=${SEED}`;

/** So many of the items, in their order; all if there are no more, or everything is tried. */
export function sampleOf<Item>(items: readonly Item[], count: number, seed = 0): readonly Item[] {
  if (isExhaustive || items.length <= count) return items;
  const next = random(SEED + seed);
  const lots = items.map(() => next());
  const limit = [...lots].sort((a, b) => a - b)[count] ?? 1;
  return items.filter((_, i) => (lots[i] ?? 1) < limit);
}

/** How many cases of a property are tried: so many, and ten times as many if everything is. */
export function runs(count: number): number {
  return isExhaustive ? 10 * count : count;
}
