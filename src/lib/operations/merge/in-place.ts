/**
 * Owns merging a cowfile into its base in place, and above all the order of what becomes durable:
 * (1) the journal beside the base: what is merged, what the fingerprint was, which undo file is to come
 * (2) the undo file under its name, if one is wanted; the journal again, saying so
 * (3) the blocks, in any order; flush of the base
 * (4) removal of the journal
 * Killed anywhere, the base is as before until (2) is done; from then on the journal lets the same command go on: the
 * blocks are simply written again, as the cowfile never changes.
 */
import type { OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { takeFingerprint } from "../../formats/cowfile/fingerprint.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { Overlay } from "../../overlay/overlay.ts";
import { type OpenFiles, refuseSameFile } from "../files.ts";
import { noteMerge, requireSameContent } from "../identity/merge-guard.ts";
import { admit, holdsAll, refuseCowfileAsBase, requireSize, requireSound } from "./admission.ts";
import { cowfileDigest, type MergeJournal } from "./journal.ts";
import { type FoundJournal, JournalPlaces, pendingMerge } from "./journal-places.ts";
import { requireUntouched } from "./old-or-new.ts";
import { explainRename } from "./renamed-base.ts";
import type { MergeRequest, MergeResult } from "./request.ts";
import { isUndoOf, rollBack } from "./roll-back.ts";
import { makeSignOfLife } from "./sign-of-life.ts";
import { saveUndo, undoHeadBlock } from "./undo.ts";
import { isUndoThere, planUndo, type UndoPlan } from "./undo-plan.ts";
import { countBlocks, requireSpace, writeBlocks } from "./write-blocks.ts";

/** @throws CowError as merge() */
export async function mergeInPlace(
  files: OpenFiles,
  rdofile: string,
  cowfile: string,
  request: MergeRequest,
  context: OperationContext,
): Promise<MergeResult> {
  const { storage } = files;
  const force = request.force ?? false;
  const dryRun = request.dryRun ?? false;
  refuseSameFile(storage, rdofile, [cowfile]);
  const cow = files.open(cowfile, { lock: "shared" });
  const base = files.open(rdofile, dryRun ? { lock: "shared" } : { writable: true, lock: "exclusive" });
  refuseCowfileAsBase(base, force);
  const layer = new CowfileLayer(cow, { allowDirty: force });
  requireSize(layer, base, force);
  await requireSound(layer, force, context);

  const places = new JournalPlaces(storage, rdofile, [cowfile], { force });
  const found = places.findOrClaim(base.sizeBytes);
  const digest = cowfileDigest(layer);
  const isOurs = found?.journal.cowfile_digest === digest && found.journal.rdofile_size === base.sizeBytes;
  const ours = isOurs ? found : undefined;
  if (found && !ours) {
    if (isUndoOf(files, found.journal, cowfile))
      return rollBack(files, { base, layer, found, places, rdofile, cowfile }, request, context);
    if (!force) throw pendingMerge(storage, rdofile, found);
  }
  const blocks = await countBlocks(layer, context);
  const admission = await admit(layer, base, ours?.journal, force, context).catch(async (error: unknown) => {
    throw found ? error : await explainRename(storage, { layer, base, rdofile, digest, error }, context);
  });
  const merging = { base, rdofile, layer, cowfile };
  if (admission.kind === "fresh") await requireSameContent(storage, merging, { refuse: !force }, context);
  // A journal that does not explain the base speaks of another one that was here before.
  const journal = admission.kind === "fresh" ? undefined : ours;
  const after = (
    await takeFingerprint(new Overlay(rdofile, base, [layer]), layer.opened.geometry.rdoBlocks, {
      signal: context.signal,
    })
  ).value;
  const headBlock = undoHeadBlock(layer, after, blocks);
  const isUndone = isUndoThere(files, request, headBlock);
  const result = (did: { readonly already: boolean; readonly resumed: boolean }): MergeResult => ({
    rdofile,
    cowfile,
    mode: "in-place",
    output: rdofile,
    blocks_merged: did.already ? 0 : blocks,
    bytes_merged: did.already ? 0 : blocks * BLOCK_BYTES,
    dry_run: dryRun,
    resumed: did.resumed,
    taken_back: false,
    already_merged: did.already,
    undo: did.already && !isUndone ? null : (request.undo ?? null),
    fingerprint_changed: !did.already && admission.kind !== "merged" && after !== admission.before.value,
  });
  if (admission.kind === "merged") {
    if (!dryRun) noteMerge(storage, merging, context);
    if (journal && !dryRun) places.remove(journal);
    return result({ already: true, resumed: journal !== undefined });
  }
  if (!journal && isUndone && (await holdsAll(layer, base, context))) return result({ already: true, resumed: false });
  const undo = planUndo(files, request, { rdofile, cowfile, journal, headBlock });
  await requireUntouched(files, { rdofile, base, layer, journal, undo, force }, context);
  await requireSpace(files, base, layer, force, context);
  const done = result({ already: false, resumed: journal !== undefined });
  if (dryRun) return done;
  await request.confirm?.({ rdofile, cowfile, blocks, resumed: journal !== undefined });

  const note: MergeJournal = journal?.journal ?? {
    cowtool_merge: 1,
    rdofile: storage.realPath(rdofile),
    rdofile_size: base.sizeBytes,
    cowfile: storage.realPath(cowfile),
    cowfile_digest: digest,
    contributions: admission.before.contributions,
    fingerprint_before: admission.before.value,
    fingerprint_after: after,
    undo: undo.path,
    undo_saved: false,
    ...places.note,
  };
  noteMerge(storage, merging, context);
  await carryOut(files, { base, layer, headBlock, undo, places, journal, note }, context);
  if (found) places.remove(found);
  return done;
}

interface Work {
  readonly base: BlockDevice;
  readonly layer: CowfileLayer;
  readonly headBlock: Uint8Array;
  readonly undo: UndoPlan;
  readonly places: JournalPlaces;
  /** The one that is there, of which `note` is a copy, unless the merge begins. */
  readonly journal: FoundJournal | undefined;
  readonly note: MergeJournal;
}

/** Steps (1) to (4), from wherever an earlier run has come to. */
async function carryOut(
  files: OpenFiles,
  { base, layer, headBlock, undo, places, journal, note }: Work,
  context: OperationContext,
): Promise<void> {
  if (undo.path !== null && !undo.kept) {
    const job = { base, layer, headBlock, path: undo.path, replace: undo.replace, places, note };
    await saveUndo(files.storage, job, context);
  } else if (note.undo !== undo.path || !journal) places.write({ ...note, undo: undo.path }, context);
  const { path } = journal ?? places.written(note);
  await writeBlocks(base, layer, context, makeSignOfLife(files.open(path, { writable: true })));
  places.remove(places.written(note));
}
