/**
 * Owns the names of unfinished outputs, which nothing else may have.
 */
import { CowError } from "../../errors.ts";

export const PARTIAL_SUFFIX = ".cowtool-partial";
export const NOTE_SUFFIX = ".cowtool-partial-note";

/** @throws CowError `usage` for an output that would be taken for an unfinished one */
export function refusePartialName(path: string): void {
  if (!path.endsWith(PARTIAL_SUFFIX) && !path.endsWith(NOTE_SUFFIX)) return;
  throw new CowError(
    "usage",
    `is a name for outputs that are not finished: no other file may end in ${PARTIAL_SUFFIX}`,
    {
      file: path,
    },
  );
}
