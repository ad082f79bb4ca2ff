/**
 * Owns how a list of problems is shown to people: the grave ones first in full, the rest of a long list counted.
 */
import type { Problem } from "../../lib/formats/format.ts";
import { paint } from "./colour.ts";

const SHOWN_OF_EACH = 8;

export interface ProblemView {
  readonly colour: boolean;
  /** Show every one, notes too. */
  readonly all: boolean;
  /** What is said of those that repair puts right; default `repair fixes it`. */
  readonly fixWords?: string;
}

/** One line a problem: `error: … [id; repair fixes it]`. */
export function* renderProblems(problems: Iterable<Problem>, view: ProblemView): Generator<string> {
  const seen = new Map<string, number>();
  const left = new Map<string, number>();
  for (const problem of problems) {
    const count = (seen.get(problem.id) ?? 0) + 1;
    seen.set(problem.id, count);
    if (!view.all && (problem.severity === "note" || count > SHOWN_OF_EACH)) {
      left.set(problem.id, (left.get(problem.id) ?? 0) + 1);
      continue;
    }
    const fix = problem.fixable ? `; ${view.fixWords ?? "repair fixes it"}` : "";
    yield `${paint(problem.severity, `${problem.severity}:`, view.colour)} ${problem.message} [${problem.id}${fix}]\n`;
  }
  for (const [id, count] of left) yield `${count} more of ${id} (-v shows ${count === 1 ? "it" : "them"})\n`;
}

/** `2 problems repair fixes, 1 it can't, 3 notes`. */
export function summariseProblems({
  fixable,
  unfixable,
  notes,
}: {
  readonly fixable: number;
  readonly unfixable: number;
  readonly notes: number;
}): string {
  if (fixable + unfixable === 0)
    return notes === 0 ? "no problems" : `no problems, ${notes} ${notes === 1 ? "note" : "notes"}`;
  const parts: string[] = [];
  if (fixable > 0) parts.push(`${fixable} ${fixable === 1 ? "problem" : "problems"} that repair fixes`);
  if (unfixable > 0) parts.push(`${unfixable} ${unfixable === 1 ? "problem" : "problems"} that it cannot fix`);
  if (notes > 0) parts.push(`${notes} ${notes === 1 ? "note" : "notes"}`);
  return parts.join(", ");
}

/** Problems as JSON: just the keys that are promised. */
export function problemsAsJson(problems: Iterable<Problem>): Iterable<Problem> {
  return {
    *[Symbol.iterator]() {
      for (const { id, severity, offset, length, fixable, message } of problems)
        yield { id, severity, offset, length, fixable, message };
    },
  };
}
