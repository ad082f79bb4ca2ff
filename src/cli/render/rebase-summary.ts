/**
 * Owns what a person is told after a rebase: what was copied up and given up, and how much the cowfile holds now.
 */
import { formatSize } from "../../lib/bytes/size.ts";
import type { RebaseResult } from "../../lib/operations/rebase.ts";
import { escapeControls } from "./escape.ts";

const BLOCK_BYTES = 1024;

function blocks(count: number): string {
  return `${count} ${count === 1 ? "block" : "blocks"}`;
}

export function* rebaseSummary(result: RebaseResult): Generator<string> {
  const { blocks_added, blocks_dropped, blocks_before, blocks_used, rdo_blocks, dry_run } = result;
  const [cowfile, to] = [escapeControls(result.cowfile), escapeControls(result.to)];
  if (result.already_done) {
    yield `${cowfile}: is over ${to} already, nothing written\n`;
    return;
  }
  const end = dry_run ? "; nothing was changed (--dry-run)" : "";
  const would = dry_run ? "would be" : "is now";
  if (result.unsafe) {
    yield `${cowfile}: ${would} over ${to}, and shows something else wherever that differs from its former base${end}\n`;
    return;
  }
  const dropped = blocks_dropped === 0 ? "" : `, ${blocks(blocks_dropped)} given up as the same`;
  yield `${cowfile}: ${would} over ${to}, ${blocks(blocks_added)} copied up${dropped}${end}\n`;
  const size = formatSize(blocks_used * BLOCK_BYTES);
  yield `${cowfile}: ${dry_run ? "would hold" : "holds"} ${blocks_used} of ${blocks(rdo_blocks)}, ${size}; before: ${blocks_before}\n`;
}
