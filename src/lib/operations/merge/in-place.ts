/**
 * Owns merging a cowfile into its base in place: gathers facts, lets decide.ts choose the state, and runs its executor:
 * write.ts, take-back.ts, or a message.
 */
import type { OperationContext } from "../../context.ts";
import { type Fingerprint, takeFingerprint } from "../../formats/cowfile/fingerprint.ts";
import { fingerprint32 } from "../../formats/cowfile/head.ts";
import { pendingMerge } from "../../notes/journal-places.ts";
import type { OpenFiles } from "../files.ts";
import { type Merging, noteMerge, requireSameContent } from "../identity/merge-guard.ts";
import { holdsAll } from "./already.ts";
import { decide } from "./decide.ts";
import { fingerprintBefore, openPair, type Pair, wrongBase } from "./pair.ts";
import { explainRename } from "./renamed-base.ts";
import type { Merged, MergeRequest } from "./request.ts";
import { takeBack } from "./take-back.ts";
import { undoFacts, write } from "./write.ts";

/** @throws CowError as merge() */
export async function mergeInPlace(
  files: OpenFiles,
  at: Pick<Merging, "rdofile" | "cowfile">,
  request: MergeRequest,
  context: OperationContext,
): Promise<Merged> {
  const { storage } = files;
  const { force = false } = request;
  const pair = await openPair(files, at, request, context);
  const { base, layer, found, digest } = pair;
  const expected = fingerprint32(layer.opened.head);
  const isOurs = found?.journal.cowfile_digest === digest && found.journal.rdofile_size === base.sizeBytes;
  const isUndo = found?.journal.undo_saved && found.journal.undo === storage.realPath(at.cowfile);
  let before: Fingerprint = { value: 0, contributions: [] };
  const state = await decide({
    journal: !found ? "none" : isOurs ? "ours" : isUndo ? "undo" : "other",
    force,
    blocks: pair.size.units,
    explained: async () => {
      const explained = found && (await fingerprintBefore(pair, found.journal, context));
      if (explained) before = explained;
      return explained !== undefined && (explained.value === expected || force);
    },
    matches: async () => {
      before = await takeFingerprint(base, layer.opened.geometry.rdoBlocks, { signal: context.signal });
      if (before.value !== expected) return false;
      const way = force ? undefined : "--force merges anyway, --output FILE leaves the base unchanged";
      await requireSameContent(storage, pair, way, context);
      return true;
    },
    holdsAll: () => holdsAll(layer, base, context),
  });
  if (found && state === "take-back") return takeBack(files, { ...pair, found }, request, context);
  if (found && state === "refuse-pending") throw pendingMerge(storage, at.rdofile, found);
  if (state === "refuse-wrong-base") {
    const error = wrongBase(layer, base, before);
    throw found ? error : await explainRename(storage, pair, error, context);
  }
  if (state === "complete") return complete(files, pair, isOurs, request, context);
  return write(files, { ...pair, before, journal: state === "resume" ? found : undefined }, request, context);
}

/** Every block was merged already: nothing is written, and no undo file is made. */
async function complete(
  files: OpenFiles,
  pair: Pair,
  isOurs: boolean,
  request: MergeRequest,
  context: OperationContext,
): Promise<Merged> {
  const { undo, dryRun } = request;
  const isUndoThere = (await undoFacts(files, pair, request, context)).there === "same";
  if (undo !== undefined && !isUndoThere)
    context.onNotice?.({ severity: "note", file: undo, message: "was not made: there is nothing to take back" });
  if (!dryRun) noteMerge(files.storage, pair, context);
  if (isOurs && pair.found && !dryRun) pair.places.remove(pair.found.journal, pair.found.path);
  return { already: true, unmarked: pair.unmarked, undo: isUndoThere ? undo : undefined };
}
