/**
 * Owns how a list of problems is shown to people: serious ones first in full, the rest of a long list counted.
 */
import type { Problem, ProblemTally, Severity } from "../../lib/formats/format.ts";
import { paint as inColour } from "./colour.ts";
import { type Row, renderTable } from "./table.ts";

const SHOWN_OF_EACH = 8;

export interface ProblemView {
  readonly colour: boolean;
  readonly columns: number | undefined;
  /** Show every one, notes too. */
  readonly all: boolean;
  /** The word before problems that were fixed, or would be; default: their severity, because they still exist. */
  readonly fixedWord?: string;
}

/** A row a problem: how grave it is, where and what, its id. Notes are shown only among `all`. */
export async function* renderProblems(problems: Iterable<Problem>, view: ProblemView): AsyncGenerator<string> {
  const rows = { [Symbol.iterator]: () => rowsOf(problems, view) };
  if (rows[Symbol.iterator]().next().done) return;
  const isSeverity = (cell: string): cell is Severity => cell === "error" || cell === "warning" || cell === "note";
  const paint = (cell: string, column: number): string =>
    column === 0 && isSeverity(cell) ? inColour(cell, cell, view.colour) : cell;
  // In a pipe each problem stays on a line of its own, however long.
  const columns = view.columns ?? Number.POSITIVE_INFINITY;
  yield* renderTable(["SEVERITY", "PROBLEM", "REPAIR", "WHERE AND WHAT"], rows, { columns, paint });
  if (view.all) return;
  for (const [id, count] of countsOf(problems)) {
    const left = count - SHOWN_OF_EACH;
    if (left > 0) yield `${left} more of ${id} (-v shows ${left === 1 ? "it" : "them"})\n`;
  }
}

function* rowsOf(problems: Iterable<Problem>, { all, fixedWord }: ProblemView): Generator<Row> {
  const seen = new Map<string, number>();
  for (const { id, severity, fixable, message } of problems) {
    if (!all && severity === "note") continue;
    const count = (seen.get(id) ?? 0) + 1;
    seen.set(id, count);
    if (!all && count > SHOWN_OF_EACH) continue;
    const isFixed = fixable && fixedWord !== undefined;
    yield [isFixed ? fixedWord : severity, id, fixable ? "yes" : "no", message];
  }
}

/** How many there are of each kind, without notes. */
function countsOf(problems: Iterable<Problem>): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { id, severity } of problems) if (severity !== "note") counts.set(id, (counts.get(id) ?? 0) + 1);
  return counts;
}

/** `dirty, 12 unmarked-data`: what a table of files has room for; `-` if there are none. */
export function kindsOfProblems(problems: Iterable<Problem>): string {
  const kinds = [...countsOf(problems)].map(([id, count]) => (count === 1 ? id : `${count} ${id}`));
  return kinds.join(", ") || "-";
}

/** Is nothing else wrong than that the base is another? */
export function isOfAnotherBase(problems: Iterable<Problem>): boolean {
  const kinds = [...countsOf(problems).keys()];
  return kinds.length > 0 && kinds.every((id) => id.startsWith("base-"));
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

/** Problems as JSON: only the promised keys. */
export function problemsAsJson(problems: Iterable<Problem>): Iterable<Problem> {
  return {
    *[Symbol.iterator]() {
      for (const { id, severity, offset, length, fixable, message } of problems) {
        yield { id, severity, offset, length, fixable, message };
      }
    },
  };
}
