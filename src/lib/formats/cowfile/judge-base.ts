/**
 * Owns judging a given base by what the head of a cowfile says of its base.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { atByte } from "../../errors.ts";
import { fitsSize, type Problem, type SurveyHooks } from "../format.ts";
import { takeFingerprint } from "./fingerprint.ts";
import { fingerprint32, formatFingerprint } from "./head.ts";
import type { CowfileHead } from "./layer.ts";
import { BLOCK_BYTES, fieldPlace } from "./layout.ts";
import { cowProblem } from "./problems.ts";
import { identityOf } from "./resized.ts";

/** Compares a base with the head's identity. */
export async function judgeBase(
  { head, headBlock }: CowfileHead,
  base: ByteSource,
  hooks: SurveyHooks,
): Promise<Problem[]> {
  const actual = Math.floor(base.sizeBytes / BLOCK_BYTES);
  const identity = identityOf(head, headBlock);
  const { blocks = actual } = identity;
  if (!fitsSize(identity, actual)) {
    const place = fieldPlace(head, "rdoblocks");
    const message = `made for a base of ${blocks} blocks (at ${atByte(place.offset)}), but ${base.name} has ${actual}`;
    return [cowProblem("base-size", place, message)];
  }
  const { value } = await takeFingerprint(base, Number(blocks), { signal: hooks.signal });
  const expected = fingerprint32(head);
  if (value === expected) return [];
  const place = fieldPlace(head, "rdofingerprint");
  const message = `made for a base with fingerprint ${formatFingerprint(expected)} (at ${atByte(place.offset)}), but that of ${base.name} is ${formatFingerprint(value)}`;
  return [cowProblem("base-fingerprint", place, message)];
}
