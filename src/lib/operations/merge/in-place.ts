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
import { CowError } from "../../errors.ts";
import { takeFingerprint } from "../../formats/cowfile/fingerprint.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { Overlay } from "../../stack/overlay.ts";
import { howToOpen, type OpenFiles, refuseSameFile } from "../files.ts";
import { type Merging, noteMerge, requireSameContent } from "../identity/merge-guard.ts";
import { admit, refuseCowfileAsBase, requireSize } from "./admission.ts";
import { holdsAll } from "./already.ts";
import { noticeUnmarked, requireSound } from "./doubts.ts";
import { cowfileDigest, type MergeJournal } from "./journal.ts";
import { type FoundJournal, JournalPlaces, pendingMerge } from "./journal-places.ts";
import { requireUntouched } from "./old-or-new.ts";
import { explainRename, refuseLateUndo } from "./renamed-base.ts";
import type { MergeRequest, MergeResult } from "./request.ts";
import { isUndoOf, rollBack } from "./roll-back.ts";
import { makeSignOfLife } from "./sign-of-life.ts";
import { saveUndo, undoHeadBlock } from "./undo.ts";
import { isUndoThere, planUndo, type UndoPlan } from "./undo-plan.ts";
import { countBlocks, requireSpace, writeBlocks } from "./write-blocks.ts";

interface Pair extends Merging {
  /** Blocks of the cowfile that hold data without a mark. */
  readonly unmarked: number;
  readonly places: JournalPlaces;
  /** A journal of any merge into this base, and the same if it is of this cowfile. */
  readonly found: FoundJournal | undefined;
  readonly ours: FoundJournal | undefined;
  readonly digest: string;
}

/** Opens both files and judges them by themselves. */
async function openPair(
  files: OpenFiles,
  rdofile: string,
  cowfile: string,
  request: MergeRequest,
  context: OperationContext,
): Promise<Pair> {
  const { storage } = files;
  const { force = false } = request;
  refuseSameFile(storage, rdofile, [cowfile]);
  const cow = files.open(cowfile, { lock: "shared" });
  const base = files.open(rdofile, howToOpen(request));
  refuseCowfileAsBase(base, force);
  const layer = new CowfileLayer(cow, { allowDirty: force });
  requireSize(layer, base, force);
  await requireSound(layer, force, context);
  const unmarked = await noticeUnmarked(layer, context, "merged");
  const places = new JournalPlaces(storage, rdofile, [cowfile], { force });
  const found = places.findOrClaim(base.sizeBytes);
  const digest = cowfileDigest(layer);
  const isOurs = found?.journal.cowfile_digest === digest && found.journal.rdofile_size === base.sizeBytes;
  return { base, rdofile, layer, cowfile, unmarked, places, found, ours: isOurs ? found : undefined, digest };
}

/** @throws CowError as merge() */
export async function mergeInPlace(
  files: OpenFiles,
  rdofile: string,
  cowfile: string,
  request: MergeRequest,
  context: OperationContext,
): Promise<MergeResult> {
  const { storage } = files;
  const { force = false, dryRun = false } = request;
  const pair = await openPair(files, rdofile, cowfile, request, context);
  const { base, layer, places, found, ours } = pair;
  if (found && !ours) {
    if (isUndoOf(files, found.journal, cowfile)) return rollBack(files, { ...pair, found }, request, context);
    if (!force) throw pendingMerge(storage, rdofile, found);
  }
  const blocks = await countBlocks(layer, context);
  const admission = await admit(layer, base, ours?.journal, force, context).catch(async (error: unknown) => {
    throw found ? error : await explainRename(storage, { ...pair, error }, context);
  });
  if (admission.kind === "fresh") await requireSameContent(storage, pair, { refuse: !force }, context);
  // A journal that does not explain the base speaks of another one that was here before.
  const journal = admission.kind === "fresh" ? undefined : ours;
  const merged = new Overlay(rdofile, base, [layer]);
  const { rdoBlocks } = layer.opened.geometry;
  const after = (await takeFingerprint(merged, rdoBlocks, { signal: context.signal })).value;
  const headBlock = undoHeadBlock(layer, after, blocks);
  const isUndone = isUndoThere(files, request, headBlock);
  const changed = admission.kind !== "merged" && after !== admission.before.value;
  const result = (wrote: boolean): MergeResult => ({
    rdofile,
    cowfile,
    mode: "in-place",
    output: rdofile,
    blocks_merged: wrote ? blocks : 0,
    bytes_merged: wrote ? blocks * BLOCK_BYTES : 0,
    dry_run: dryRun,
    resumed: journal !== undefined,
    taken_back: false,
    already_merged: !wrote,
    undo: wrote || isUndone ? (request.undo ?? null) : null,
    fingerprint_changed: wrote && changed,
    unmarked_blocks: pair.unmarked,
    given_up: false,
  });
  // Of no blocks every base holds all: that says nothing.
  if (admission.kind === "merged" || (!journal && blocks > 0 && (await holdsAll(layer, base, context)))) {
    if (!isUndone) noticeNoUndo(request, context);
    if (!dryRun) noteMerge(storage, pair, context);
    if (ours && !dryRun) places.remove(ours);
    return result(false);
  }
  if (request.undo !== undefined && !journal && !force) await refuseLateUndo(storage, pair, context);
  const undo = planUndo(files, request, { rdofile, cowfile, journal, headBlock });
  await requireUntouched(files, { rdofile, base, layer, journal, undo, force }, context);
  await requireSpace(files, base, layer, force, context);
  if (dryRun) return result(true);
  await request.confirm?.({ rdofile, cowfile, blocks, resumed: journal !== undefined });

  const note: MergeJournal = journal?.journal ?? {
    cowtool_merge: 1,
    rdofile: storage.realPath(rdofile),
    rdofile_size: base.sizeBytes,
    cowfile: storage.realPath(cowfile),
    cowfile_digest: pair.digest,
    contributions: admission.before.contributions,
    fingerprint_before: admission.before.value,
    fingerprint_after: after,
    undo: undo.path,
    undo_saved: false,
    ...places.note,
  };
  await carryOut(files, { ...pair, headBlock, undo, journal, note }, context);
  if (found) places.remove(found);
  return result(true);
}

function noticeNoUndo({ undo }: MergeRequest, { onNotice }: OperationContext): void {
  if (undo === undefined) return;
  onNotice?.({ severity: "note", file: undo, message: "was not made: there is nothing to take back" });
}

interface Work extends Pair {
  readonly headBlock: Uint8Array;
  readonly undo: UndoPlan;
  /** The one that is there, of which `note` is a copy, unless the merge begins. */
  readonly journal: FoundJournal | undefined;
  readonly note: MergeJournal;
}

/** Steps (1) to (4), from wherever an earlier run has come to. */
async function carryOut(files: OpenFiles, work: Work, context: OperationContext): Promise<void> {
  const { base, layer, headBlock, undo, places, journal, note } = work;
  if (undo.path !== null && !undo.kept) {
    const job = { base, layer, headBlock, path: undo.path, replace: undo.replace, places, note };
    await saveUndo(files.storage, job, context);
  } else if (note.undo !== undo.path || !journal) places.write({ ...note, undo: undo.path }, context);
  noteMerge(files.storage, work, context);
  const { path } = journal ?? places.written(note);
  const beat = makeSignOfLife(files.open(path, { writable: true, own: true }));
  let pieces = 0;
  const beforePiece = (): void => {
    pieces++;
    beat();
  };
  await writeBlocks(base, layer, context, beforePiece).catch((error: unknown) => {
    // Nothing of the base was touched: it is not half merged.
    if (!journal && pieces === 1 && isRefusal(error)) {
      places.remove(places.written(note));
      if (undo.path !== null && !undo.kept) files.storage.remove(undo.path);
    }
    throw error;
  });
  places.remove(places.written(note));
}

/** Was it not even tried? An I/O error may come after a part was written. */
function isRefusal(error: unknown): boolean {
  return error instanceof CowError && ["EPERM", "EACCES", "EROFS"].includes(String(error.details["errno"]));
}
