/**
 * Owns the table of everything that can be wrong with a dm-cow stack. Errors prevent opening it. The devices have no
 * redundancy to repair them with.
 */
import { findingsFrom, type ProblemSpec } from "../problems.ts";

export const DM_COW_PROBLEMS = {
  "bitmap-short": {
    severity: "error",
    about: "The bitmap device ends before the place of its magic number.",
  },
  "foreign-magic": {
    severity: "error",
    about: "The magic number is wrong: this is no bitmap, or one of another length.",
  },
  "length-mismatch": {
    severity: "error",
    about: "The bitmap was made for a stack of another length. The driver reads that number, but never compares it.",
  },
  "impossible-bit": {
    severity: "error",
    about: "Read with this bit order, a bit is set beyond the last sector: the bitmap was written with another.",
  },
  "device-short": {
    severity: "error",
    about: "A data device, or the base, ends before the stack does.",
  },
  unattached: {
    severity: "note",
    about: "The bitmap has no magic number yet: the driver writes it when the stack is first used.",
  },
  "alias-group": {
    severity: "warning",
    about:
      "Read as coded, sectors share a bit. Which of them were written is not known; those that were not read as whatever is on the data device.",
  },
  "long-name": {
    severity: "note",
    about: "The driver cuts off names of devices after 25 characters.",
  },
} as const satisfies Readonly<Record<string, ProblemSpec>>;

export type DmCowProblemId = keyof typeof DM_COW_PROBLEMS;

export const dmCowProblem = findingsFrom(DM_COW_PROBLEMS);
