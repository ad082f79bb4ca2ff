/**
 * Owns what the formats' tables of problems have in common: findings made of their rows, and counted.
 */
import type { ByteSource } from "../bytes/byte-source.ts";
import type { Extent } from "../bytes/extent.ts";
import type { Problem, ProblemTally, Severity } from "./format.ts";

export interface ProblemSpec {
  readonly severity: Severity;
  /** What it is and how it comes about, for the manual. */
  readonly about: string;
  /** What `repair` does about it; absent where it can do nothing. */
  readonly fix?: string;
  /** The fix gives something up, and is made only with `--drop-lost`. */
  readonly onlyDropLost?: true;
}

/** Makes findings out of the rows of a table. */
export function findingsFrom<Id extends string>(table: Readonly<Record<Id, ProblemSpec>>) {
  return (id: Id, { offset, length }: Extent, message: string): Problem => {
    const { severity, fix, onlyDropLost } = table[id];
    return { id, severity, fixable: fix !== undefined && !onlyDropLost, offset, length, message };
  };
}

/** Longer lists are made anew each time: they may be as long as a disk. */
const KEPT_PROBLEMS = 64;

/** A list that is made while it is read; a short one is made once. */
export function remade(make: () => Iterable<Problem>): Iterable<Problem> {
  let kept: readonly Problem[] | undefined;
  return {
    *[Symbol.iterator]() {
      if (kept) return void (yield* kept);
      const all: Problem[] = [];
      for (const problem of make()) {
        if (all.length <= KEPT_PROBLEMS) all.push(problem);
        yield problem;
      }
      if (all.length <= KEPT_PROBLEMS) kept = all;
    },
  };
}

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

/**
 * Judges a base by its size, for formats that store nothing else about it.
 * @param blocks how many the layer was made for, of `blockBytes` each
 */
export function judgeSize(blocks: number, blockBytes: number, base: ByteSource): readonly Problem[] {
  const actual = Math.floor(base.sizeBytes / blockBytes);
  if (actual === blocks) return [];
  const message = `it was made for a base of ${blocks} blocks of ${blockBytes} bytes, but ${base.name} has ${actual}`;
  return [{ id: "base-size", severity: "error", fixable: false, offset: 0, length: 0, message }];
}
