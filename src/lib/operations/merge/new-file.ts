/**
 * Owns merging a cowfile and its base into a new image (`merge -o`). Both inputs are only read; the image appears whole, or not at all.
 */
import type { OperationContext } from "../../context.ts";
import { cowfileFormat } from "../../formats/cowfile/index.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { requireBelongs } from "../../stack/open.ts";
import { claimOutput, mayReplace } from "../claim-output.ts";
import { type OpenFiles, refuseSameFile } from "../files.ts";
import { requireSameContent } from "../identity/merge-guard.ts";
import { refuseCowfileAsBase, requireSize } from "./admission.ts";
import { noticeUnmarked, requireSound } from "./doubts.ts";
import { fillImage } from "./fill-image.ts";
import { refusePendingMerge } from "./journal-places.ts";
import type { MergeRequest, MergeResult } from "./request.ts";
import { countBlocks } from "./write-blocks.ts";

/** @throws CowError as merge() */
export async function mergeIntoNewFile(
  files: OpenFiles,
  inputs: { readonly rdofile: string; readonly cowfile: string; readonly output: string },
  request: MergeRequest,
  context: OperationContext,
): Promise<MergeResult> {
  const { rdofile, cowfile, output } = inputs;
  const force = request.force ?? false;
  refuseSameFile(files.storage, output, [rdofile, cowfile]);
  const base = files.open(rdofile, { lock: "shared" });
  const cow = files.open(cowfile, { lock: "shared" });
  refuseCowfileAsBase(base, force);
  if (!force) refusePendingMerge(files.storage, rdofile, [cowfile, output]);
  const readable = await cowfileFormat.readable(cow, () => files.scratch(cowfile), context.signal);
  const layer = new CowfileLayer(readable, { allowDirty: force });
  requireSize(layer, base, force);
  await requireSound(layer, force, context);
  const unmarked_blocks = await noticeUnmarked(layer, context, "merged");
  if (!force) await requireBelongs(layer, base, context.signal);
  await requireSameContent(files.storage, { base, rdofile, layer, cowfile }, { refuse: false }, context);
  const allowed = { force: request.replaceOutput ?? force, replace: request.replace };
  claimOutput(files, output, allowed, "raw");
  const bytes = (await countBlocks(layer, context)) * BLOCK_BYTES;
  const dryRun = request.dryRun ?? false;
  if (!dryRun) {
    const pending = files.create(output, [rdofile, cowfile]);
    try {
      await fillImage({ base, layer, target: pending.device, output, total: bytes }, context);
      pending.commit({ replace: mayReplace(allowed, output) });
    } finally {
      pending.abandon();
    }
  }
  return {
    rdofile,
    cowfile,
    mode: "new-file",
    output,
    blocks_merged: bytes / BLOCK_BYTES,
    bytes_merged: bytes,
    dry_run: dryRun,
    resumed: false,
    taken_back: false,
    already_merged: false,
    undo: null,
    fingerprint_changed: false,
    unmarked_blocks,
    given_up: false,
  };
}
