/**
 * Owns the table of everything that can be wrong with an LVM physical volume, as far as cowtool looks at it.
 */
import type { Problem, Severity } from "../format.ts";

interface ProblemSpec {
  readonly severity: Severity;
  /** What it is and how it comes about, for the manual. */
  readonly about: string;
}

export const LVM_PROBLEMS = {
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

/** Makes a finding out of a row of the table. Nothing of LVM's is ever repaired here. */
export function lvmProblem(
  id: keyof typeof LVM_PROBLEMS,
  where: { readonly offset: number; readonly length: number },
  message: string,
): Problem {
  return {
    id,
    severity: LVM_PROBLEMS[id].severity,
    fixable: false,
    offset: where.offset,
    length: where.length,
    message,
  };
}
