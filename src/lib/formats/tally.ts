/**
 * Owns counting a list of problems.
 */
import type { Problem, ProblemTally } from "./format.ts";

/** Counts without keeping. */
export function tally(problems: Iterable<Problem>): ProblemTally {
  const counts = { fixable: 0, unfixable: 0, notes: 0 };
  for (const { severity, fixable } of problems) {
    if (severity === "note") counts.notes++;
    else if (fixable) counts.fixable++;
    else counts.unfixable++;
  }
  return counts;
}
