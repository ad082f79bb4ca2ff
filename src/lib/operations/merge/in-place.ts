/**
 * Owns merging a cowfile into its base in place, and above all the order of what becomes durable:
 * (1) the journal beside the base: what is merged, what the fingerprint was, which undo file is to come
 * (2) the undo file under its name, if one is wanted; the journal again, saying so
 * (3) the blocks, in any order; flush of the base
 * (4) removal of the journal
 * Killed anywhere, the base is as before until (2) is done; from then on the journal lets the same command go on: the
 * blocks are simply written again, as the cowfile never changes.
 */
import type { Extent } from "../../bytes/extent.ts";
import { interrupted, makeBreath, type OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { Copier } from "../../device/copy.ts";
import { CowError } from "../../errors.ts";
import { takeFingerprint } from "../../formats/cowfile/fingerprint.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { Overlay } from "../../overlay/overlay.ts";
import { type OpenFiles, refuseSameFile } from "../files.ts";
import { admit, holdsAll, refuseCowfileAsBase, requireSize, requireSound } from "./admission.ts";
import {
  cowfileDigest,
  journalPath,
  type MergeJournal,
  pendingMerge,
  readJournal,
  sameHead,
  writeJournal,
} from "./journal.ts";
import type { MergeRequest, MergeResult } from "./request.ts";
import { prepareUndo, undoHeadBlock } from "./undo.ts";

const PIECE_BYTES = 32 << 20;

interface Plan {
  readonly files: OpenFiles;
  readonly base: BlockDevice;
  readonly layer: CowfileLayer;
  readonly blocks: number;
  readonly request: MergeRequest;
  readonly context: OperationContext;
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
  const force = request.force ?? false;
  const dryRun = request.dryRun ?? false;
  refuseSameFile(storage, rdofile, [cowfile]);
  const cow = files.open(cowfile, { lock: "shared" });
  const base = files.open(rdofile, dryRun ? { lock: "shared" } : { writable: true, lock: "exclusive" });
  refuseCowfileAsBase(base, force);
  const layer = new CowfileLayer(cow, { allowDirty: force });
  requireSize(layer, base, force);
  await requireSound(layer, force, context);

  const path = journalPath(storage, rdofile, cowfile);
  const found = force ? readableJournal(files, path) : readJournal(storage, path);
  const digest = cowfileDigest(layer);
  const journal = found?.cowfile_digest === digest && found.rdofile_size === base.sizeBytes ? found : undefined;
  if (found && !journal) {
    if (isUndoOf(files, found, cowfile))
      return rollBack(files, { base, layer, path, found, rdofile, cowfile }, request, context);
    if (!force) throw pendingMerge(rdofile, path, found);
  }
  const admission = await admit(layer, base, journal, force, context);
  const blocks = countBlocks(layer);
  const result = (merged: number, resumed: boolean, after?: number): MergeResult => ({
    rdofile,
    cowfile,
    mode: "in-place",
    output: rdofile,
    blocks_merged: merged,
    bytes_merged: merged * BLOCK_BYTES,
    dry_run: dryRun,
    resumed,
    already_merged: admission.kind === "merged",
    undo: request.undo ?? null,
    fingerprint_changed: after !== undefined && admission.kind !== "merged" && after !== admission.before.value,
  });
  if (admission.kind === "merged") {
    if (journal && !dryRun) storage.remove(path);
    return result(0, journal !== undefined);
  }
  const after = (
    await takeFingerprint(new Overlay(rdofile, base, [layer]), layer.opened.geometry.rdoBlocks, {
      signal: context.signal,
    })
  ).value;
  const headBlock = undoHeadBlock(layer, after, blocks);
  if (!journal && isUndoThere(files, request, headBlock) && (await holdsAll(layer, base, context))) {
    return { ...result(0, false), already_merged: true };
  }
  const undo = planUndo(files, request, { rdofile, cowfile, journal, path, headBlock });
  requireSpace(files, base, layer, force);
  if (dryRun) return result(blocks, journal !== undefined, after);
  await request.confirm?.({ rdofile, cowfile, blocks, resumed: journal !== undefined });

  const plan: Plan = { files, base, layer, blocks, request, context };
  const note: MergeJournal = journal ?? {
    cowtool_merge: 1,
    rdofile,
    rdofile_size: base.sizeBytes,
    cowfile,
    cowfile_digest: digest,
    contributions: admission.before.contributions,
    fingerprint_before: admission.before.value,
    fingerprint_after: after,
    undo: undo.path,
    undo_saved: false,
  };
  if (undo.path !== null && !undo.kept)
    await saveUndo(plan, path, note, { path: undo.path, headBlock, replace: undo.replace });
  else if (!journal) writeJournal(storage, path, note);
  await writeBlocks(plan, rdofile, cowfile);
  storage.remove(path);
  return result(blocks, journal !== undefined, after);
}

/** With --force an unreadable journal counts as none. */
function readableJournal(files: OpenFiles, path: string): MergeJournal | undefined {
  try {
    return readJournal(files.storage, path);
  } catch {
    return undefined;
  }
}

function countBlocks(layer: CowfileLayer): number {
  let bytes = 0;
  for (const { length } of layer.extents(0, layer.virtualSizeBytes)) bytes += length;
  return bytes / BLOCK_BYTES;
}

/** Is the undo file that this merge would write there already? Then an earlier run may have done everything. */
function isUndoThere(files: OpenFiles, request: MergeRequest, headBlock: Uint8Array): boolean {
  const path = request.undo === undefined ? undefined : files.storage.realPath(request.undo);
  return path !== undefined && files.storage.facts(path)?.kind === "file" && isSameHead(files, path, headBlock);
}

interface UndoPlan {
  readonly path: string | null;
  /** It was completed by the merge that was interrupted. */
  readonly kept: boolean;
  readonly replace: boolean;
}

/** Which undo file is to be written, if any. @throws CowError `exists`, `pending-merge`, `usage` */
function planUndo(
  files: OpenFiles,
  request: MergeRequest,
  at: { rdofile: string; cowfile: string; journal: MergeJournal | undefined; path: string; headBlock: Uint8Array },
): UndoPlan {
  const { storage } = files;
  if (request.undo === undefined)
    return { path: at.journal?.undo_saved ? at.journal.undo : null, kept: true, replace: false };
  refuseSameFile(storage, request.undo, [at.rdofile, at.cowfile]);
  const path = storage.realPath(request.undo);
  if (at.journal && at.journal.undo !== path) {
    throw new CowError(
      "pending-merge",
      "holds a part of this cowfile already, from a merge that was interrupted: what that overwrote cannot be saved any more",
      {
        file: at.rdofile,
        details: { journal: at.path },
        hints: [at.journal.undo === null ? "complete it without --undo" : `complete it with --undo ${at.journal.undo}`],
      },
    );
  }
  const there = storage.facts(path);
  const ours = there?.kind === "file" && isSameHead(files, path, at.headBlock);
  if (at.journal?.undo_saved) {
    if (ours) return { path, kept: true, replace: false };
    throw new CowError("pending-merge", "is not the undo file that the interrupted merge had saved", {
      file: path,
      hints: ["complete the merge without --undo"],
    });
  }
  // Between the undo file's appearance and the note that it is complete, the base was not touched: it may be made again.
  if (there && !(at.journal && ours))
    throw new CowError("exists", "already exists; an undo file is never overwritten", { file: request.undo });
  return { path, kept: false, replace: there !== undefined };
}

function isSameHead(files: OpenFiles, path: string, headBlock: Uint8Array): boolean {
  return sameHead(files.open(path, { lock: "shared" }), headBlock);
}

async function saveUndo(
  plan: Plan,
  journal: string,
  note: MergeJournal,
  undo: { readonly path: string; readonly headBlock: Uint8Array; readonly replace: boolean },
): Promise<void> {
  const { storage } = plan.files;
  const pending = await prepareUndo(storage, undo.path, { ...plan, headBlock: undo.headBlock }, plan.context);
  try {
    writeJournal(storage, journal, note);
    pending.commit({ replace: undo.replace });
    writeJournal(storage, journal, { ...note, undo_saved: true });
  } finally {
    pending.abandon();
  }
}

async function writeBlocks({ base, layer, blocks, context }: Plan, rdofile: string, cowfile: string): Promise<void> {
  const copier = new Copier();
  const breath = makeBreath();
  let done = 0;
  for (const extent of layer.extents(0, layer.virtualSizeBytes)) {
    for (const { offset, length } of pieces(extent)) {
      if (context.signal?.aborted) {
        base.flush();
        throw interrupted(
          rdofile,
          `it holds ${done / BLOCK_BYTES} of ${blocks} blocks; the same command completes the merge of ${cowfile}`,
        );
      }
      copier.copy({
        source: layer.source as BlockDevice,
        sourceOffset: layer.locate(offset),
        target: base,
        targetOffset: offset,
        length,
      });
      done += length;
      context.onProgress?.({ phase: "merging", done, total: blocks * BLOCK_BYTES, unit: "bytes" });
      await breath();
    }
  }
  base.flush();
}

function* pieces({ offset, length }: Extent): Generator<Extent> {
  for (let at = 0; at < length; at += PIECE_BYTES)
    yield { offset: offset + at, length: Math.min(PIECE_BYTES, length - at) };
}

/** @throws CowError `no-space` if the holes of the base that will be filled need more than is free */
function requireSpace(files: OpenFiles, base: BlockDevice, layer: CowfileLayer, force: boolean): void {
  if (!base.seesHoles || force) return;
  let needed = 0;
  for (const { offset, length } of layer.extents(0, layer.virtualSizeBytes)) {
    needed += length;
    for (const data of base.dataExtents(offset, offset + length)) needed -= data.length;
  }
  const free = files.storage.freeBytes(base.name);
  if (free === undefined || needed <= free) return;
  throw new CowError(
    "no-space",
    `the merge fills ${needed} bytes of holes, but only ${free} bytes are free; nothing was changed`,
    {
      file: base.name,
      details: { needed_bytes: needed, free_bytes: free },
      hints: ["--force begins all the same (on a file system that compresses or shares blocks it may fit)"],
    },
  );
}

/** Is this cowfile the undo file that the interrupted merge had saved? */
function isUndoOf(files: OpenFiles, journal: MergeJournal, cowfile: string): boolean {
  return journal.undo !== null && journal.undo_saved && journal.undo === files.storage.realPath(cowfile);
}

/** Takes an interrupted merge back: its undo file holds every block that it may have overwritten. Interrupted itself, either way on is open. */
async function rollBack(
  files: OpenFiles,
  at: { base: BlockDevice; layer: CowfileLayer; path: string; found: MergeJournal; rdofile: string; cowfile: string },
  request: MergeRequest,
  context: OperationContext,
): Promise<MergeResult> {
  const { base, layer } = at;
  if (request.undo !== undefined)
    throw new CowError("usage", "--undo makes no sense while an interrupted merge is taken back", { file: at.cowfile });
  if (layer.base.fingerprint !== at.found.fingerprint_after) {
    throw new CowError("pending-merge", "is not the undo file that the interrupted merge had saved", {
      file: at.cowfile,
      details: { journal: at.path },
    });
  }
  const blocks = countBlocks(layer);
  const dryRun = request.dryRun ?? false;
  if (!dryRun) {
    await request.confirm?.({ rdofile: at.rdofile, cowfile: at.cowfile, blocks, resumed: false });
    await writeBlocks({ files, base, layer, blocks, request, context }, at.rdofile, at.cowfile);
    files.storage.remove(at.path);
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
    already_merged: false,
    undo: null,
    fingerprint_changed: false,
  };
}
