/**
 * Owns taking an interrupted merge back: its undo file holds every block that the merge may have overwritten.
 */
import type { OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { CowError } from "../../errors.ts";
import type { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import type { OpenFiles } from "../files.ts";
import { isExplained } from "./admission.ts";
import type { MergeJournal } from "./journal.ts";
import type { FoundJournal, JournalPlaces } from "./journal-places.ts";
import type { MergeRequest, MergeResult } from "./request.ts";
import { makeSignOfLife, requireNoLaterChange } from "./sign-of-life.ts";
import { countBlocks, writeBlocks } from "./write-blocks.ts";

/** Is this cowfile the undo file that the interrupted merge had saved? */
export function isUndoOf(files: OpenFiles, journal: MergeJournal, cowfile: string): boolean {
  return journal.undo !== null && journal.undo_saved && journal.undo === files.storage.realPath(cowfile);
}

/**
 * Takes an interrupted merge back. Interrupted itself, either way on is open: the journal stays until all is done.
 *
 * @throws CowError `pending-merge` if it is not that merge's undo file; `wrong-base` if the journal does not explain the base; `usage`; as writeBlocks
 */
export async function rollBack(
  files: OpenFiles,
  at: {
    readonly base: BlockDevice;
    readonly layer: CowfileLayer;
    readonly found: FoundJournal;
    readonly places: JournalPlaces;
    readonly rdofile: string;
    readonly cowfile: string;
  },
  request: MergeRequest,
  context: OperationContext,
): Promise<MergeResult> {
  const { base, layer, found } = at;
  if (request.undo !== undefined)
    throw new CowError("usage", "--undo makes no sense while an interrupted merge is taken back", { file: at.cowfile });
  if (layer.base.fingerprint !== found.journal.fingerprint_after) {
    throw new CowError("pending-merge", "is not the undo file that the interrupted merge had saved", {
      file: at.cowfile,
      details: { journal: found.path },
    });
  }
  // The undo file holds the same blocks as the cowfile: what it leaves alone is as it was, or this is another base.
  if (!request.force && !(await isExplained(layer, base, found.journal, context))) {
    throw new CowError("wrong-base", `is not the base that ${found.path} describes, or was changed since`, {
      file: at.rdofile,
      details: { journal: found.path },
      hints: ["--force writes the undo file's blocks anyway"],
    });
  }
  if (!request.force) requireNoLaterChange(files.storage, at.rdofile, found);
  const blocks = await countBlocks(layer, context);
  const dryRun = request.dryRun ?? false;
  if (!dryRun) {
    await request.confirm?.({ rdofile: at.rdofile, cowfile: at.cowfile, blocks, resumed: false });
    await writeBlocks(base, layer, context, makeSignOfLife(files.open(found.path, { writable: true, own: true })));
    at.places.remove(found);
  }
  return {
    rdofile: at.rdofile,
    cowfile: at.cowfile,
    mode: "in-place",
    output: at.rdofile,
    blocks_merged: blocks,
    bytes_merged: blocks * BLOCK_BYTES,
    dry_run: dryRun,
    resumed: false,
    taken_back: true,
    already_merged: false,
    undo: null,
    fingerprint_changed: false,
    unmarked_blocks: 0,
    given_up: false,
  };
}
