/**
 * Owns the answer to "which blocks did our dead server mark?": nothing but the bitmap after a new start of the machine,
 * the bitmap and the journal before; and where a flush log was in use, what is in that.
 */
import type { ByteTarget } from "../../../bytes/byte-source.ts";
import type { Extent } from "../../../bytes/extent.ts";
import { coalesce, listed } from "../../../bytes/extent.ts";
import type { CheckOptions } from "../../format.ts";
import type { OpenedCowfile } from "../layer.ts";
import { BLOCK_BYTES } from "../layout.ts";
import type { FoundLog } from "./flush-log.ts";
import { type BlockRun, JOURNAL_SUFFIX, journalLog, journalRuns } from "./journal.ts";
import { logRuns, replayLog } from "./replay.ts";
import { isOfThisBoot, readStamp } from "./stamp.ts";

/**
 * The parts of the file whose blocks are marked in the journal, ascending; nothing more is to be searched for.
 *
 * @returns undefined where the file is not as a server of ours left it, or its journal is missing: only its content tells
 */
export function ownMarks(
  opened: OpenedCowfile,
  options: Pick<CheckOptions, "companion" | "boot">,
): readonly Extent[] | undefined {
  const session = ownSession(opened, options);
  if (!session) return undefined;
  const { dataOffsetBytes, rdoBlocks } = opened.geometry;
  const extents = session.runs
    .filter(({ first }) => first < rdoBlocks)
    .map(({ first, count }) => ({
      offset: dataOffsetBytes + first * BLOCK_BYTES,
      length: Math.min(count, rdoBlocks - first) * BLOCK_BYTES,
    }));
  return listed(coalesce(extents.sort((a, b) => a.offset - b.offset)));
}

/** After a power cut, puts what flushes had covered in its place; does nothing for a file of any other past. */
export function replayOwn(
  target: ByteTarget,
  opened: OpenedCowfile,
  options: Pick<CheckOptions, "companion" | "boot">,
): void {
  const session = ownSession(opened, options);
  if (session?.log) replayLog(target, session.log, session.logDone, opened.geometry);
}

interface OwnSession {
  readonly runs: readonly BlockRun[];
  /** What is to be put in its place. */
  readonly log: FoundLog | undefined;
  readonly logDone: number;
}

function ownSession(
  { head, headBlock, geometry }: OpenedCowfile,
  { companion, boot }: Pick<CheckOptions, "companion" | "boot">,
): OwnSession | undefined {
  const stamp = readStamp(head, headBlock);
  if (!stamp || !boot || ![stamp.boot, boot].every((id) => id.some((byte) => byte !== 0))) return undefined;
  const { nonce, logDone, usesLog } = stamp;
  const isLaterBoot = !isOfThisBoot(stamp, boot);
  if (isLaterBoot && !usesLog) return { runs: [], log: undefined, logDone };
  const journal = companion?.(JOURNAL_SUFFIX);
  const runs = journal && journalRuns(journal, nonce);
  const log = journal && journalLog(journal, nonce);
  if (!runs || !log) return undefined;
  if (isLaterBoot) return { runs: logRuns(log, geometry), log, logDone };
  return { runs: [...runs, ...logRuns(log, geometry)], log: undefined, logDone };
}
