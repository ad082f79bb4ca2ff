/**
 * Owns what a person is told after a resize: the new size, what was lost, and what other programs need.
 */
import { formatSize } from "../../lib/bytes/size.ts";
import type { ResizeResult } from "../../lib/operations/resize.ts";
import { escapeControls } from "./escape.ts";

const BLOCK_BYTES = 1024;

export function* resizeSummary(result: ResizeResult): Generator<string> {
  const { virtual_size: size, base_blocks, blocks_dropped, dry_run } = result;
  const cowfile = escapeControls(result.cowfile);
  if (result.already_done) {
    yield `${cowfile}: has ${formatSize(size)} already, nothing written\n`;
    return;
  }
  const end = dry_run ? "; nothing was changed (--dry-run)" : "";
  yield `${cowfile}: ${dry_run ? "would have" : "now has"} ${formatSize(size)}; before: ${formatSize(result.virtual_size_before)}${end}\n`;
  if (blocks_dropped > 0)
    yield `${cowfile}: ${blocks_dropped} allocated ${blocks_dropped === 1 ? "block" : "blocks"} beyond the end ${dry_run ? "would be" : "are"} lost\n`;
  const base = base_blocks * BLOCK_BYTES;
  if (base !== size)
    yield `${cowfile}: its base has ${formatSize(base)} and stays as it is; the original driver takes the cowfile only with a base of ${formatSize(size)}\n`;
}
