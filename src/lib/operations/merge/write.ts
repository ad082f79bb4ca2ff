/**
 * Owns what a merge in place writes, and above all the order of what becomes durable:
 * (1) the undo file, if one is wanted, under a temporary name
 * (2) the journal: what is merged, what the fingerprint was, which undo file is to come
 * (3) the undo file under its name; the journal again, saying so
 * (4) the blocks, in any order; flush of the base
 * (5) removal of the journal
 * Killed anywhere, the base is as before until (3) is done; from then on the journal lets the same command complete the
 * merge: the blocks are simply written again, as the cowfile never changes.
 */
import { interrupted, type OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { type Fingerprint, takeFingerprint } from "../../formats/cowfile/fingerprint.ts";
import { newCowfileHead } from "../../formats/cowfile/writer.ts";
import type { FoundJournal } from "../../notes/journal-places.ts";
import type { MergeJournal } from "../../notes/merge-journal.ts";
import { viewOf } from "../../output/write-image.ts";
import { Overlay } from "../../stack/overlay.ts";
import type { OpenFiles } from "../files.ts";
import { noteMerge } from "../identity/merge-guard.ts";
import { fillCowfile } from "../new-cowfile.ts";
import { decideUndo, type UndoFacts, type UndoRefusal } from "./decide.ts";
import type { Pair } from "./pair.ts";
import { refuseLateUndo } from "./renamed-base.ts";
import type { Merged, MergeRequest } from "./request.ts";
import { makeSignOfLife, requireUntouched } from "./untouched.ts";
import { requireSpace, writeLayer } from "./write-layer.ts";

interface Job extends Pair {
  /** Of the base before the merge, which may have begun. */
  readonly before: Fingerprint;
  /** Of the interrupted merge that is completed; undefined for a new merge. */
  readonly journal: FoundJournal | undefined;
}

/** Begins a merge, or completes an interrupted one. @throws CowError as merge() */
export async function write(
  files: OpenFiles,
  job: Job,
  request: MergeRequest,
  context: OperationContext,
): Promise<Merged> {
  const { storage } = files;
  const { base, layer, rdofile, cowfile, size, unmarked, places, before, journal } = job;
  const { force = false } = request;
  const { merged, after, ...asked } = await undoFacts(files, job, request, context);
  if (request.undo !== undefined && !journal && !force) await refuseLateUndo(storage, job, context);
  const undo = decideUndo({ ...asked, journal: journal?.journal });
  if (typeof undo === "string") throw undoRefused(undo, job, request);
  if (journal && !force) await requireUntouched(files, { base, layer, rdofile, journal, undo }, context);
  if (!force) await requireSpace(files, base, layer, size, context);
  const resumed = journal !== undefined;
  const result = { ...size, resumed, undo: request.undo, fingerprintChanged: after !== before.value, unmarked };
  if (request.dryRun) return result;
  await request.confirm?.({ rdofile, cowfile, blocks: size.units, bytes: size.bytes, resumed });

  const note: MergeJournal = journal?.journal ?? {
    cowtool_merge: 1,
    rdofile: storage.realPath(rdofile),
    rdofile_size: base.sizeBytes,
    cowfile: storage.realPath(cowfile),
    cowfile_digest: job.digest,
    contributions: before.contributions,
    fingerprint_before: before.value,
    fingerprint_after: after,
    undo: undo.path,
    undo_saved: false,
    ...places.note,
  };
  if (undo.make) {
    await files.write(undo.path, [base.name, layer.name], { force: undo.replace }, async (target) => {
      const { abi } = layer.opened.head;
      const { rdoBlocks } = layer.opened.geometry;
      const held = layer.extents(0, layer.virtualSizeBytes);
      const phase = "saving what will be overwritten";
      const stopped = () => interrupted(base.name, "the undo file was not complete yet; nothing was changed");
      const job = { target, abi, rdoBlocks, base: merged, view: viewOf(base), held, phase, stopped };
      await fillCowfile(files, job, context);
      target.flush();
      places.write(note, context);
    });
    places.write({ ...note, undo_saved: true }, context);
  } else if (note.undo !== undo.path || !journal) places.write({ ...note, undo: undo.path }, context);
  noteMerge(storage, job, context);
  const beat = makeSignOfLife(files.open(journal?.path ?? places.path, { writable: true, own: true }));
  let pieces = 0;
  const beforePiece = (): void => {
    pieces++;
    beat();
  };
  await writeLayer(base, layer, size, context, beforePiece).catch((error: unknown) => {
    // The base was not touched, so it is not partly merged. An I/O error may come after a part was written.
    const errno = error instanceof CowError ? String(error.details["errno"]) : "";
    if (!journal && pieces === 1 && ["EPERM", "EACCES", "EROFS"].includes(errno)) {
      places.remove(note);
      if (undo.make) storage.remove(undo.path);
    }
    throw error;
  });
  places.remove(note);
  if (job.found) places.remove(job.found.journal, job.found.path);
  return result;
}

/** The requested undo file, and the merged image, which it is a layer over. */
export async function undoFacts(
  files: OpenFiles,
  { base, layer, rdofile, size }: Pair,
  { undo }: MergeRequest,
  { signal }: OperationContext,
): Promise<Pick<UndoFacts, "asked" | "there"> & { readonly merged: Overlay; readonly after: number }> {
  const merged = new Overlay(rdofile, base, [layer]);
  const { rdoBlocks } = layer.opened.geometry;
  const { value: after } = await takeFingerprint(merged, rdoBlocks, { signal });
  const asked = undo === undefined ? undefined : files.storage.realPath(undo);
  const facts = asked === undefined ? undefined : files.storage.facts(asked);
  if (asked === undefined || !facts) return { merged, after, asked, there: "nothing" };
  const head = newCowfileHead({ abi: layer.opened.head.abi, rdoBlocks, fingerprint: after }, size.units);
  const theirs = new Uint8Array(head.length);
  if (facts.kind === "file") files.open(asked, { lock: "shared" }).read(theirs, 0);
  const isSame = Buffer.compare(theirs, head) === 0;
  return { merged, after, asked, there: isSame ? "same" : "other" };
}

function undoRefused(why: UndoRefusal, { rdofile, journal }: Job, { undo = "" }: MergeRequest): CowError {
  if (why === "exists")
    return new CowError("exists", "already exists; an undo file is never overwritten", { file: undo });
  if (why === "not-the-saved-one")
    return new CowError("pending-merge", "is not the undo file that the interrupted merge had saved", {
      file: undo,
      hints: ["complete the merge without --undo"],
    });
  const made = journal?.journal.undo ?? null;
  return new CowError(
    "pending-merge",
    "holds a part of this cowfile already, from a merge that was interrupted: what that overwrote cannot be saved any more",
    {
      file: rdofile,
      details: { journal: journal?.path ?? null },
      hints: [made === null ? "complete it without --undo" : `complete it with --undo ${made}`],
    },
  );
}
