/**
 * Owns `verify-fingerprint`: does this layer belong to this base, and is the base still as recorded?
 */
import type { OperationContext } from "../context.ts";
import { CowError } from "../errors.ts";
import { takeFingerprint } from "../formats/cowfile/fingerprint.ts";
import { formatFingerprint } from "../formats/cowfile/head.ts";
import { fitsSize } from "../formats/format.ts";
import { formatOfPart } from "../stack/open-part.ts";
import { parsePart } from "../stack/part.ts";
import { type GivenStack, OpenFiles } from "./files.ts";
import { askAboutBase } from "./identity/ask.ts";
import { type BaseJudgement, type ChangedExtent, showsThrough, type Verdict } from "./identity/judge.ts";
import { QUICK, UNLIMITED } from "./identity/sampling.ts";

/** What `verifyFingerprint` is asked for. */
export interface VerifyRequest {
  /** Read everything that was recorded of the base, whatever its times say and however long it takes. */
  readonly full?: boolean;
}

/** The judgement of a base by the record beside its cowfile. */
export interface BaseReport {
  /** Is there a record of this cowfile's base? */
  readonly recorded: boolean;
  /** Does it cover all of the base, or samples only? */
  readonly complete: boolean;
  readonly recorded_at: string | null;
  readonly verdict: Verdict;
  /** How much of the record was compared; `times`: nothing had to be read. */
  readonly compared: "nothing" | "times" | "part" | "all";
  readonly compared_bytes: number;
  readonly changed_extents: readonly ChangedExtent[];
  /** A change is in blocks that the cowfile has not allocated, or perhaps not. */
  readonly shows_through: boolean;
}

/** Does a layer belong to a base? */
export interface FingerprintResult {
  readonly rdofile: string;
  readonly cowfile: string;
  readonly match: boolean;
  readonly fingerprint_expected: string;
  readonly fingerprint_actual: string;
  /** A bigint where a number would be rounded. */
  readonly rdo_blocks_expected: number | bigint;
  readonly rdo_blocks_actual: number;
  readonly identity: BaseReport;
}

/**
 * Compares size and fingerprint of a base (a stack) with what a cowfile, dirty or packed or not, says of its base; and
 * its content with what was recorded beside the cowfile. Equal fingerprints prove little: at most four blocks go into one.
 *
 * @throws CowError `not-found`, `locked`, `bad-head`, `damaged`, `unsupported` (also for formats without a fingerprint), `io`,
 *   `interrupted`
 */
export async function verifyFingerprint(
  rdofile: GivenStack,
  cowfile: string,
  request: VerifyRequest = {},
  context: OperationContext = {},
): Promise<FingerprintResult> {
  return OpenFiles.during(context, async (files) => {
    const opened = files.openPart(parsePart(cowfile), { lock: "shared" });
    const { file: cow, part } = opened;
    const format = formatOfPart(opened);
    const identity = await format.identify(cow, { ...opened.options, signal: context.signal });
    const { blocks, fingerprint: expected } = identity;
    if (blocks === undefined || expected === undefined) {
      throw new CowError("unsupported", `is a ${format.title}, which holds no fingerprint of its base: nothing tells`, {
        file: part.path,
      });
    }
    const stack = await files.openStack(rdofile);
    const actualBlocks = Math.floor(stack.device.sizeBytes / identity.blockBytes);
    const fits = fitsSize(identity, actualBlocks);
    const upTo = fits ? Number(blocks) : actualBlocks;
    const actual = (await takeFingerprint(stack.device, upTo, { signal: context.signal })).value;
    const how = request.full ? { always: true, budget: UNLIMITED } : { budget: QUICK };
    const answer = await askAboutBase(files, { cow, cowfile: part.path, stack }, how, context);
    if (answer.ignored) {
      const { path, why } = answer.ignored;
      context.onNotice?.({ severity: "note", file: path, message: `the base record is ignored: ${why}` });
    }
    return {
      rdofile: files.stackSpec(rdofile).text,
      cowfile,
      match: actual === expected && fits,
      fingerprint_expected: formatFingerprint(expected),
      fingerprint_actual: formatFingerprint(actual),
      rdo_blocks_expected: blocks,
      rdo_blocks_actual: actualBlocks,
      identity: reportOf(answer),
    };
  });
}

function reportOf(answer: BaseJudgement): BaseReport {
  const { record, verdict, compared, comparedBytes, changed } = answer;
  return {
    recorded: record !== undefined,
    complete: record?.unread.length === 0,
    recorded_at: record?.recorded ?? null,
    verdict,
    compared,
    compared_bytes: comparedBytes,
    changed_extents: changed,
    shows_through: showsThrough(answer),
  };
}
