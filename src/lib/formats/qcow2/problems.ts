/**
 * Owns the table of everything that can be wrong with a qcow2 file; check and the manual are driven by it.
 */
import { findingsFrom, type ProblemSpec } from "../problems.ts";

export const QCOW2_PROBLEMS = {
  dirty: {
    severity: "warning",
    about:
      "The file was not closed, with reference counts that are written late (lazy_refcounts): they may be too low. Its content is not affected.",
  },
  corrupt: {
    severity: "error",
    about: "QEMU found the tables to contradict each other, and marked the file as corrupt. It is read only by force.",
  },
  "unknown-feature": { severity: "error", about: "The file has incompatible features that cowtool does not know." },
  unreadable: { severity: "error", about: "The file is encrypted, or has its data elsewhere: cowtool cannot read it." },
  "table-offset": {
    severity: "error",
    about: "An entry of a table names a place where no cluster begins, or that cannot be addressed.",
  },
  "beyond-end": {
    severity: "error",
    about:
      "An entry of a table names a place beyond the end of the file: the file was cut short, or the entry is wrong.",
  },
  overlap: {
    severity: "error",
    about: "A cluster of metadata is in use for something else, too: writing to the one would destroy the other.",
  },
  "refcount-low": {
    severity: "error",
    about:
      "A cluster is used more often than its reference count says: a writer would take it for free, and overwrite it.",
  },
  "refcount-high": {
    severity: "warning",
    about: "A cluster is used less often than its reference count says, but it is used.",
  },
  leak: {
    severity: "warning",
    about: "Clusters have a reference count, but are not used: space is lost, no data.",
  },
  "reserved-bits": {
    severity: "error",
    about:
      "Bits that must be zero are set in an entry of a table: the entry is damaged, and what it means is not known.",
  },
} as const satisfies Record<string, ProblemSpec>;

export type Qcow2ProblemId = keyof typeof QCOW2_PROBLEMS;

/** Nothing is fixable here: `qemu-img check -r` is. */
export const qcow2Problem = findingsFrom(QCOW2_PROBLEMS);
