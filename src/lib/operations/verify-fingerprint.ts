/**
 * Owns `verify-fingerprint`: does this layer belong to this base?
 */
import type { OperationContext } from "../context.ts";
import { takeFingerprint } from "../formats/cowfile/fingerprint.ts";
import { formatFingerprint } from "../formats/cowfile/head.ts";
import { requireFormat } from "../formats/registry.ts";
import { OpenFiles } from "./files.ts";

export interface FingerprintResult {
  readonly rdofile: string;
  readonly cowfile: string;
  readonly match: boolean;
  readonly fingerprint_expected: string;
  readonly fingerprint_actual: string;
  /** A bigint where a number would be rounded. */
  readonly rdo_blocks_expected: number | bigint;
  readonly rdo_blocks_actual: number;
}

/**
 * Compares size and fingerprint of a base (a stack) with what a cowfile, dirty or packed or not, says of its base.
 * Equal fingerprints prove little: at most four blocks go into one.
 *
 * @throws CowError `not-found`, `locked`, `bad-head`, `damaged`, `unsupported`, `io`, `interrupted`
 */
export async function verifyFingerprint(
  rdofile: string,
  cowfile: string,
  context: OperationContext,
): Promise<FingerprintResult> {
  return OpenFiles.during(context, async (files) => {
    const cow = files.open(cowfile, { lock: "shared" });
    const identity = await requireFormat(cow).identify(cow, { signal: context.signal });
    const { device } = await files.openStack(rdofile);
    const actualBlocks = Math.floor(device.sizeBytes / identity.blockBytes);
    const expected = identity.fingerprint ?? 0;
    const actual = (await takeFingerprint(device, actualBlocks, { signal: context.signal })).value;
    return {
      rdofile,
      cowfile,
      match: actual === expected && actualBlocks === identity.blocks,
      fingerprint_expected: formatFingerprint(expected),
      fingerprint_actual: formatFingerprint(actual),
      rdo_blocks_expected: identity.blocks,
      rdo_blocks_actual: actualBlocks,
    };
  });
}
