/**
 * Owns the table of everything that can be wrong with a dm-snapshot store. `check`, `repair`, the documentation and the
 * tests are driven by it: a problem that is not here cannot be reported.
 */
import { findingsFrom, type ProblemSpec } from "../problems.ts";

interface StoreProblemSpec extends ProblemSpec {
  /** What the kernel (6.1) does with it. */
  readonly kernel: string;
}

export const STORE_PROBLEMS = {
  invalid: {
    severity: "error",
    about:
      "The kernel marked the store invalid, as it ran full, or an area could not be written. What was committed before is still there; if the origin was written since, it is no faithful snapshot any more.",
    kernel: "loads it, status Invalid, every access fails",
  },
  "valid-value": {
    severity: "note",
    about: "The word that says whether the store is valid is neither 0 nor 1.",
    kernel: "takes every value but 0 for valid",
  },
  "chunk-size": {
    severity: "error",
    about: "The chunk size is not a power of two between 1 sector and 1 GiB.",
    kernel: "refuses it",
  },
  "area-missing": {
    severity: "error",
    about:
      "A metadata area is full, and the file ends before the next one, which would have to tell that the list ends there. What that area held, if it ever existed, is lost.",
    kernel: "refuses it",
    fix: "only with --drop-lost: lengthens the file by an empty area",
    onlyDropLost: true,
  },
  "too-many": {
    severity: "error",
    about: "The list has more exceptions than the store has chunks: it is no list. What follows is not looked at.",
    kernel: "loads them all",
  },
  "old-duplicate": {
    severity: "error",
    about:
      "Two exceptions are for the same chunk of the origin. The first in the list counts, as it does for the kernel; of several, the first whose data is in the store.",
    kernel: "the first one counts",
    fix: "takes the later ones out of the list: what the store shows does not change",
  },
  "new-duplicate": {
    severity: "error",
    about: "Two exceptions are in the same chunk of the store: whose data it holds is not known.",
    kernel: "shows the same data for both",
  },
  "new-metadata": {
    severity: "error",
    about:
      "An exception is in the header or in a metadata area (kernels of 2013 and before wrote such stores, CVE-2013-4299): its data was overwritten.",
    kernel: "shows metadata as data",
    fix: "only with --drop-lost: takes it out of the list, so that the origin shows through",
    onlyDropLost: true,
  },
  "new-beyond": {
    severity: "error",
    about: "An exception's data is beyond the end of the file, or in a chunk that the end cuts short: it is lost.",
    kernel: "fails when that chunk is read, and finds no room for further ones",
    fix: "only with --drop-lost: takes it out of the list, so that the origin shows through",
    onlyDropLost: true,
  },
  "old-beyond": {
    severity: "warning",
    about:
      "An exception is for a chunk that the origin does not have: it was made for a longer one. Seen only where the origin is given. A merge refuses such a store, as the data would be in neither.",
    kernel: "never looks at it",
    fix: "only with --drop-lost: takes it out of the list",
    onlyDropLost: true,
  },
  "stale-tuples": {
    severity: "warning",
    about:
      "Stale entries follow the end of the list in its last area. They are ignored, but a kernel that extends the store may use them again.",
    kernel: "ends the list at the first zero",
    fix: "zeroes it",
  },
  "looks-full": {
    severity: "note",
    about:
      "There is no room for a further exception: the next write to a new chunk makes a kernel give the snapshot up.",
    kernel: "Invalid (type P) or Overflow (type PO) with the next write",
  },
} as const satisfies Record<string, StoreProblemSpec>;

export type StoreProblemId = keyof typeof STORE_PROBLEMS;

export const storeProblem = findingsFrom(STORE_PROBLEMS);

/** Is its fix made only where the user gives up what is lost? */
export function givesUp(id: string): boolean {
  const specs: Readonly<Record<string, ProblemSpec>> = STORE_PROBLEMS;
  return specs[id]?.onlyDropLost ?? false;
}
