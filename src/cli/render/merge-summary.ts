/**
 * Owns what a person is told after a merge: what was written, and what became of the cowfile and its siblings.
 */
import { formatSize } from "../../lib/bytes/size.ts";
import type { MergeResult } from "../../lib/operations/merge/request.ts";

export function* mergeSummary(result: MergeResult): Generator<string> {
  const { rdofile, cowfile, output, undo } = result;
  const amount = `${result.blocks_merged} ${result.blocks_merged === 1 ? "block" : "blocks"}, ${formatSize(result.bytes_merged)}`;
  if (result.already_merged) {
    yield `${rdofile}: holds every block of ${cowfile} already, nothing written\n`;
    return;
  }
  if (result.dry_run) {
    yield `${output}: ${amount} of ${cowfile} would be merged; nothing was changed (--dry-run)\n`;
    return;
  }
  if (result.mode === "new-file") {
    yield `${output}: is ${rdofile} with ${amount} of ${cowfile}; both are as they were\n`;
    return;
  }
  yield `${rdofile}: ${amount} of ${cowfile} merged${result.resumed ? ", completing an interrupted merge" : ""}\n`;
  yield `${cowfile}: every block of it now is in ${rdofile} too: it is redundant, and may be removed\n`;
  if (result.fingerprint_changed) {
    yield `other cowfiles over the former ${rdofile} no longer match it, and are refused\n`;
  } else {
    yield `other cowfiles over the former ${rdofile} still match its fingerprint, but no longer show what they did: do not use them\n`;
  }
  if (undo !== null) yield `${undo}: takes the merge back, by \`cowtool merge ${rdofile} ${undo}\`\n`;
}
