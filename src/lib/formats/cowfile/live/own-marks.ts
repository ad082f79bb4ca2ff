/**
 * Owns the answer to "which blocks did our dead server mark?": nothing but the bitmap after a new start of the machine,
 * the bitmap and the journal before.
 */
import type { Extent } from "../../../bytes/extent.ts";
import { coalesce } from "../../../bytes/extent.ts";
import type { CheckOptions } from "../../format.ts";
import type { OpenedCowfile } from "../layer.ts";
import { BLOCK_BYTES } from "../layout.ts";
import { JOURNAL_SUFFIX, journalRuns } from "./journal.ts";
import { isOfThisBoot, readStamp } from "./stamp.ts";

/**
 * The parts of the file whose blocks are marked in the journal, ascending; nothing more is to be searched for.
 *
 * @returns undefined where the file is not as a server of ours left it, or its journal is missing: only its content tells
 */
export function ownMarks(
  { head, headBlock, geometry }: OpenedCowfile,
  { companion, boot }: Pick<CheckOptions, "companion" | "boot">,
): readonly Extent[] | undefined {
  const stamp = readStamp(head, headBlock);
  if (!stamp || !boot || ![stamp.boot, boot].every((id) => id.some((byte) => byte !== 0))) return undefined;
  if (!isOfThisBoot(stamp, boot)) return [];
  const journal = companion?.(JOURNAL_SUFFIX);
  const runs = journal && journalRuns(journal, stamp.nonce);
  if (!runs) return undefined;
  const { dataOffsetBytes, rdoBlocks } = geometry;
  const extents = runs
    .filter(({ first }) => first < rdoBlocks)
    .map(({ first, count }) => ({
      offset: dataOffsetBytes + first * BLOCK_BYTES,
      length: Math.min(count, rdoBlocks - first) * BLOCK_BYTES,
    }));
  return [...coalesce(extents.sort((a, b) => a.offset - b.offset))];
}
