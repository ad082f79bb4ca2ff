/**
 * Owns what a person is told after a three-way merge: what came from which layer, and where they are in conflict.
 */
import type { Extent } from "../../lib/bytes/extent.ts";
import { formatSize } from "../../lib/bytes/size.ts";
import { atByte } from "../../lib/errors.ts";
import type { ThreeWayResult } from "../../lib/operations/three-way.ts";
import { escapeControls } from "./escape.ts";

const SHOWN = 20;

/** @param view.all show every conflict */
export function* threeWaySummary(result: ThreeWayResult, view: { readonly all: boolean }): Generator<string> {
  const { conflicts, bytes_in_conflict, preferred, written, dry_run, from_a, from_b, in_both } = result;
  const [output, a, b] = [result.output, result.cowfile, result.sibling].map(escapeControls);
  const chosen = preferred === "a" ? a : b;
  let count = 0;
  for (const { offset, length } of conflicts as Iterable<Extent>)
    if (count++ < SHOWN || view.all) yield `conflict: ${formatSize(length)} at ${atByte(offset)}\n`;
  if (count > SHOWN && !view.all) yield `conflict: and ${count - SHOWN} more (-v shows them)\n`;
  if (bytes_in_conflict > 0 && preferred === null) {
    yield `${output}: not written, ${a} and ${b} changed the same ${formatSize(bytes_in_conflict)} to different things; --prefer a or b decides\n`;
    return;
  }
  const parts = `${formatSize(from_a)} of ${a}, ${formatSize(from_b)} of ${b}, ${formatSize(in_both)} the same in both`;
  const decided = bytes_in_conflict === 0 ? "" : `, ${formatSize(bytes_in_conflict)} in conflict taken from ${chosen}`;
  const end = dry_run ? "; nothing was changed (--dry-run)" : "";
  yield `${output}: ${written ? "holds" : "would hold"} ${parts}${decided}${end}\n`;
}
