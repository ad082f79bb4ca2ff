/**
 * Owns how a list of problems is shown to people: the grave ones first in full, the rest of a long list counted.
 */
import type { Problem, ProblemTally } from "../../lib/formats/format.ts";
import { paint } from "./colour.ts";
import { escapeControls } from "./escape.ts";

const SHOWN_OF_EACH = 8;

export interface ProblemView {
  readonly file: string;
  readonly colour: boolean;
  /** Show every one, notes too. */
  readonly all: boolean;
  /** What is said of those that repair puts right; default `repair fixes it`. */
  readonly fixWords?: string;
}

/** One line a problem: `error: vm1.cow: … [id; repair fixes it]`. Notes are shown only among `all`. */
export function* renderProblems(problems: Iterable<Problem>, view: ProblemView): Generator<string> {
  const seen = new Map<string, number>();
  for (const problem of problems) {
    if (!view.all && problem.severity === "note") continue;
    const count = (seen.get(problem.id) ?? 0) + 1;
    seen.set(problem.id, count);
    if (!view.all && count > SHOWN_OF_EACH) continue;
    const fix = problem.fixable ? `; ${view.fixWords ?? "repair fixes it"}` : "";
    const severity = paint(problem.severity, `${problem.severity}:`, view.colour);
    yield `${severity} ${escapeControls(`${view.file}: ${problem.message}`)} [${problem.id}${fix}]\n`;
  }
  if (view.all) return;
  for (const [id, count] of seen) {
    const left = count - SHOWN_OF_EACH;
    if (left > 0) yield `${left} more of ${id} (-v shows ${left === 1 ? "it" : "them"})\n`;
  }
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/** `no problems`, or `2 problems that repair fixes, 1 problem that repair cannot fix, 3 notes (-v shows them)`. */
export function summariseProblems({ fixable, unfixable, notes }: ProblemTally, all: boolean): string {
  const parts: string[] = [];
  if (fixable > 0) parts.push(`${counted(fixable, "problem")} that repair fixes`);
  if (unfixable > 0) parts.push(`${counted(unfixable, "problem")} that repair cannot fix`);
  if (parts.length === 0) parts.push("no problems");
  if (notes > 0) parts.push(`${counted(notes, "note")}${all ? "" : ` (-v shows ${notes === 1 ? "it" : "them"})`}`);
  return parts.join(", ");
}

/** Problems as JSON: just the keys that are promised. */
export function problemsAsJson(problems: Iterable<Problem>): Iterable<Problem> {
  return {
    *[Symbol.iterator]() {
      for (const { id, severity, offset, length, fixable, message } of problems) {
        yield { id, severity, offset, length, fixable, message };
      }
    },
  };
}
