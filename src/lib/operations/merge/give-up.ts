/**
 * Owns giving up an interrupted merge that can be neither completed nor taken back: its merge journal is removed, and
 * the base stays as it is. Refused while the cowfile or the undo file exists, unless forced.
 */
import type { OperationContext } from "../../context.ts";
import { CowError, shellWord } from "../../errors.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { type FoundJournal, JournalPlaces, pendingMerge } from "../../notes/journal-places.ts";
import { cowfileDigest } from "../../notes/merge-journal.ts";
import type { OpenFiles } from "../files.ts";
import type { Merged, MergeRequest, MergeResult } from "./request.ts";

/**
 * Removes the merge journal of an interrupted merge of `cowfile` into `rdofile`. Nothing else is written.
 *
 * @throws CowError `unsuitable` if there is none; `pending-merge` if it is of another cowfile, or the merge can still
 * be completed or taken back; `damaged` if it cannot be read, unless `force`; `locked`, `declined`, `io`
 */
export async function giveUp(
  files: OpenFiles,
  { rdofile, cowfile }: Pick<MergeResult, "rdofile" | "cowfile">,
  { force = false, dryRun = false, confirm }: MergeRequest,
  context: OperationContext,
): Promise<Merged> {
  const { storage } = files;
  // A running merge has it locked. The base itself is not written.
  const base = files.open(rdofile, { lock: "shared" });
  const places = new JournalPlaces(storage, rdofile, [cowfile], { force: false });
  const found = findOrUnreadable(places, base.sizeBytes, force);
  if (found === undefined)
    throw new CowError("unsuitable", "has no journal of an interrupted merge", { file: rdofile });
  if (typeof found !== "string") requireHopeless(files, rdofile, cowfile, found, force);
  const result = { givenUp: true };
  if (dryRun) return result;
  await confirm?.({ rdofile, cowfile, blocks: 0, bytes: 0, resumed: true, givesUp: true });
  if (context.signal?.aborted) throw new CowError("interrupted", "interrupted: nothing was changed", { file: rdofile });
  if (typeof found === "string") storage.remove(found, { own: "" });
  else places.remove(found.journal, found.path);
  return result;
}

/** The merge journal, or the path of an unreadable one. */
function findOrUnreadable(places: JournalPlaces, sizeBytes: number, force: boolean): FoundJournal | string | undefined {
  try {
    return places.find(sizeBytes);
  } catch (error) {
    if (!force || !(error instanceof CowError) || error.code !== "damaged" || error.file === undefined) throw error;
    return error.file;
  }
}

function requireHopeless(
  files: OpenFiles,
  rdofile: string,
  cowfile: string,
  found: FoundJournal,
  force: boolean,
): void {
  const { storage } = files;
  const { journal, path } = found;
  if (journal.cowfile !== storage.realPath(cowfile)) throw pendingMerge(storage, rdofile, found);
  if (force) return;
  const refuse = (message: string, hint: string): never => {
    throw new CowError("pending-merge", message, {
      file: rdofile,
      details: { journal: path, cowfile: journal.cowfile },
      hints: [`${hint}; --force gives the merge up anyway`],
    });
  };
  const [base, undo] = [shellWord(rdofile), journal.undo];
  if (undo !== null && journal.undo_saved && storage.facts(undo))
    refuse(`can be taken back to what it was before: ${undo} is there`, `\`cowtool merge ${base} ${shellWord(undo)}\``);
  if (isThere(files, cowfile, journal.cowfile_digest))
    refuse(`can be completed: ${cowfile} is there`, `\`cowtool merge ${base} ${shellWord(cowfile)}\``);
}

/** Is it the cowfile that was being merged? */
function isThere(files: OpenFiles, cowfile: string, digest: string): boolean {
  if (!files.storage.facts(cowfile)) return false;
  try {
    return cowfileDigest(new CowfileLayer(files.open(cowfile, { lock: "shared" }), { allowDirty: true })) === digest;
  } catch (error) {
    if (error instanceof CowError && ["bad-head", "truncated", "damaged", "packed"].includes(error.code)) return false;
    throw error;
  }
}
