/**
 * Owns what can be wrong with a pack as a container, as problems of the table.
 */
import { atByte } from "../../errors.ts";
import type { Problem } from "../format.ts";
import { cowProblem } from "./problems.ts";

/** @param surplusBytes bytes of blocks beyond (or, negative, below) what the bitmap asks for */
export function packProblems(surplusBytes: number, fileBytes: number): Problem[] {
  if (surplusBytes === 0) return [];
  if (surplusBytes < 0) {
    const message = `the pack ends at ${atByte(fileBytes)}, ${-surplusBytes} bytes before the end of its last block`;
    return [cowProblem("pack-truncated", { offset: fileBytes, length: -surplusBytes }, message)];
  }
  const where = { offset: fileBytes - surplusBytes, length: surplusBytes };
  const message = `the last ${surplusBytes} bytes, from ${atByte(where.offset)}, belong to no block`;
  return [cowProblem("pack-trailing", where, message)];
}

/** The findings of a pack's head and bitmap. Problems that need the unallocated blocks cannot be repaired in a pack. */
export function* inPack(problems: Iterable<Problem>): Generator<Problem> {
  for (const problem of problems) {
    if (problem.id !== "dirty") yield problem;
    else {
      const message = `is marked dirty at ${atByte(problem.offset)}: blocks that were not allocated when it was packed are not in the pack`;
      yield { ...problem, fixable: false, message };
    }
  }
}
