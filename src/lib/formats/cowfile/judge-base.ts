/**
 * Owns judging a given base by what the head of a cowfile says of its base.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { atByte } from "../../errors.ts";
import { fitsSize, type Problem, type SurveyHooks } from "../format.ts";
import { takeFingerprint } from "./fingerprint.ts";
import { fingerprint32, formatFingerprint } from "./head.ts";
import type { CowfileHead } from "./layer.ts";
import { BLOCK_BYTES, headLayout } from "./layout.ts";
import { cowProblem } from "./problems.ts";
import { identityOf } from "./resized.ts";

/** Compares a base with the head's identity. */
export async function judgeBase(
  { head, headBlock }: CowfileHead,
  base: ByteSource,
  hooks: SurveyHooks,
): Promise<Problem[]> {
  const problems: Problem[] = [];
  const place = (name: "rdoblocks" | "rdofingerprint"): { offset: number; length: number } => {
    const field = headLayout(head.abi).fields.find((candidate) => candidate.name === name);
    return { offset: field?.offsetBytes ?? 0, length: field?.sizeBytes ?? 0 };
  };
  const actual = Math.floor(base.sizeBytes / BLOCK_BYTES);
  const identity = identityOf(head, headBlock);
  const { blocks = actual } = identity;
  if (!fitsSize(identity, actual)) {
    problems.push(
      cowProblem(
        "base-size",
        place("rdoblocks"),
        `made for a base of ${blocks} blocks (at ${atByte(place("rdoblocks").offset)}), but ${base.name} has ${actual}`,
      ),
    );
    return problems;
  }
  const { value } = await takeFingerprint(base, Number(blocks), { signal: hooks.signal });
  if (value !== fingerprint32(head)) {
    problems.push(
      cowProblem(
        "base-fingerprint",
        place("rdofingerprint"),
        `made for a base with fingerprint ${formatFingerprint(fingerprint32(head))} (at ${atByte(place("rdofingerprint").offset)}), but that of ${base.name} is ${formatFingerprint(value)}`,
      ),
    );
  }
  return problems;
}
