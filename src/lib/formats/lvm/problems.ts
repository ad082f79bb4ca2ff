/**
 * Owns the table of everything that can be wrong with an LVM physical volume, as far as cowtool looks at it.
 */
import { findingsFrom, type ProblemSpec } from "../problems.ts";

const LVM_PROBLEMS = {
  "label-checksum": {
    severity: "error",
    about: "The checksum of the label does not fit: the list of metadata areas may be wrong.",
  },
  "metadata-area": {
    severity: "error",
    about: "A metadata area is damaged, or its text is. If there is a second one that is whole, that one counts.",
  },
  "volume-group": {
    severity: "error",
    about: "The text of the volume group is whole, but says something that can't be.",
  },
  "logical-volume": {
    severity: "note",
    about: "A logical volume can't be addressed: it is on other physical volumes too, or its type is not known.",
  },
} as const satisfies Record<string, ProblemSpec>;

export const lvmProblem = findingsFrom(LVM_PROBLEMS);
