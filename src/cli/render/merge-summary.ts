/**
 * Owns the summary of a merge for people: what was written, and what to do with the cowfile and others over the base.
 */
import { formatSize } from "../../lib/bytes/size.ts";
import { shellWord } from "../../lib/errors.ts";
import type { MergeQuestion, MergeResult } from "../../lib/operations/merge/request.ts";
import { escapeControls } from "./escape.ts";
import { inBlocks } from "./summaries.ts";

/** What a person is asked before the first write. @param undo the undo file, if one is written */
export function mergeQuestion(
  rdofile: string,
  cowfile: string,
  { blocks, bytes, resumed, givesUp }: MergeQuestion,
  undo?: string,
): string {
  if (givesUp) return `give up the interrupted merge of ${cowfile}? ${rdofile} stays as it is, partly merged`;
  const what = `${inBlocks(blocks)}, ${formatSize(bytes)}, of ${cowfile} into ${rdofile}`;
  const back = undo === undefined ? "without an undo file (--undo) this cannot be taken back" : `${undo} takes it back`;
  const others = `other cowfiles over ${rdofile} will not match it any more`;
  return `${resumed ? "go on writing" : "write"} ${what}? ${back}, and ${others}: go on?`;
}

export function* mergeSummary(result: MergeResult): Generator<string> {
  // In a stack, the layer below is written.
  const rdofile = escapeControls(result.mode === "in-place" ? result.output : result.rdofile);
  const cowfile = escapeControls(result.cowfile);
  const output = escapeControls(result.output);
  const amount = `${inBlocks(result.blocks_merged)}, ${formatSize(result.bytes_merged)},`;
  if (result.given_up) yield* givenUp(result, rdofile, cowfile);
  else if (result.already_merged) yield `${rdofile}: holds every block of ${cowfile} already, nothing written\n`;
  else if (result.dry_run && result.taken_back)
    yield `${rdofile}: holds a part of a merge that was interrupted; ${cowfile} would take it back, by ${amount.slice(0, -1)}; nothing was changed (--dry-run)\n`;
  else if (result.dry_run && result.resumed)
    yield `${rdofile}: holds a part of ${cowfile} already, as a merge was interrupted; ${amount} would be written to complete it; nothing was changed (--dry-run)\n`;
  else if (result.dry_run)
    yield `${output}: ${amount} of ${cowfile} would be merged; nothing was changed (--dry-run)\n`;
  else if (result.mode === "new-file")
    yield `${output}: is ${rdofile} with ${amount} of ${cowfile}; both are as they were\n`;
  else if (result.blocks_merged === 0) yield `${rdofile}: unchanged, because ${cowfile} has no allocated blocks\n`;
  else if (result.taken_back) {
    yield `${rdofile}: the interrupted merge is taken back, by ${amount} of ${cowfile}; it is as before, and cowfiles over it match again\n`;
    yield `${cowfile}: is no longer needed and may be removed\n`;
  } else yield* mergedInPlace(result, { rdofile, cowfile, amount });
}

function* givenUp({ dry_run }: MergeResult, rdofile: string, cowfile: string): Generator<string> {
  yield dry_run
    ? `${rdofile}: the journal of the interrupted merge of ${cowfile} would be taken away; nothing was changed (--dry-run)\n`
    : `${rdofile}: the interrupted merge of ${cowfile} is given up, and its journal is gone\n`;
  yield `${rdofile}: any part of ${cowfile} may be merged: check the content before you use it as a base\n`;
}

function* mergedInPlace(
  { resumed, fingerprint_changed, undo, unmarked_blocks, ...paths }: MergeResult,
  { rdofile, cowfile, amount }: { readonly rdofile: string; readonly cowfile: string; readonly amount: string },
): Generator<string> {
  yield `${rdofile}: ${amount} of ${cowfile} merged${resumed ? ", completing an interrupted merge" : ""}\n`;
  yield unmarked_blocks === 0
    ? `${cowfile}: all its blocks are now in ${rdofile} too: it is redundant and may be removed\n`
    : `${cowfile}: all its allocated blocks are now in ${rdofile} too; ${unmarked_blocks} unallocated ${unmarked_blocks === 1 ? "block" : "blocks"} may hold data: keep it until you have checked\n`;
  yield fingerprint_changed
    ? `cowfiles that were made for other content of ${rdofile} no longer match it, and are refused\n`
    : `cowfiles that were made for other content of ${rdofile} still match its fingerprint, but no longer show what they did: do not use them\n`;
  if (undo === null) return;
  const command = escapeControls(`cowtool merge ${shellWord(paths.rdofile)} ${shellWord(undo)}`);
  yield `${escapeControls(undo)}: undoes the merge: \`${command}\`\n`;
}
