/**
 * Owns the traces of an interrupted merge into a base that was renamed. Its merge journal has the old name, and says
 * what the base was; the base record beside the cowfile says that a merge has begun. No undo file is made for such a
 * base, because the blocks that it needs are overwritten.
 */
import type { OperationContext } from "../../context.ts";
import { OWN } from "../../device/own-file.ts";
import type { Storage } from "../../device/storage.ts";
import { CowError, shellWord } from "../../errors.ts";
import { journalNames, readJournal } from "../../notes/merge-journal.ts";
import { notePath } from "../../notes/note.ts";
import { readSidecar } from "../../notes/sidecar.ts";
import { holdsAny } from "./already.ts";
import { fingerprintBefore, type Pair } from "./pair.ts";

/** The error, with a hint if a merge journal of this very merge has another name. */
export async function explainRename(
  storage: Storage,
  pair: Pair,
  error: CowError,
  context: OperationContext,
): Promise<CowError> {
  const path = await journalOfOldName(storage, pair, context);
  if (path === undefined) return error;
  return new CowError(error.code, error.message, {
    file: error.file,
    details: { ...error.details, journal: path },
    hints: [renameHint(storage, pair, path)],
  });
}

/** @throws CowError `pending-merge` if an undo file would be made for a partly merged base */
export async function refuseLateUndo(storage: Storage, at: Pair, context: OperationContext): Promise<void> {
  const path = await journalOfOldName(storage, at, context);
  const sidecar = readSidecar(storage, at.cowfile, at.layer.base);
  const hasBegun = sidecar.state === "own" && sidecar.record.merged;
  if (path === undefined && !(hasBegun && (await holdsAny(at.layer, at.base, context)))) return;
  const traces =
    path === undefined ? "a merge of it has begun before, and some of its blocks are there" : `see ${path}`;
  throw new CowError(
    "pending-merge",
    `seems to hold a part of this cowfile already (${traces}): what that overwrote cannot be saved any more`,
    {
      file: at.rdofile,
      details: { journal: path ?? null },
      hints: [
        ...(path === undefined ? [] : [renameHint(storage, at, path)]),
        "without --undo the merge is completed; --force saves what is there now",
      ],
    },
  );
}

function renameHint(storage: Storage, { rdofile }: Pair, journal: string): string {
  const rename = `mv ${shellWord(journal)} ${shellWord(notePath(storage, OWN.mergeJournal, rdofile))}`;
  return `${journal} tells that the merge of this cowfile into a base of that name was interrupted, and fits this one: if it was renamed, \`${rename}\`, and the same command completes the merge`;
}

/** A merge journal of this cowfile and a base that no longer has its old name, and that explains this one. */
async function journalOfOldName(storage: Storage, pair: Pair, context: OperationContext): Promise<string | undefined> {
  const { base, layer, rdofile, cowfile, digest } = pair;
  for (const { path, file } of journalNames(storage, [rdofile, cowfile])) {
    if (storage.facts(file)) continue;
    // The owner of an unreadable merge journal is unknown.
    const journal = readJournal(storage, path, true);
    if (journal?.cowfile_digest !== digest || journal.rdofile_size !== base.sizeBytes) continue;
    if (journal.fingerprint_before !== layer.base.fingerprint) continue;
    if (await fingerprintBefore(pair, journal, context)) return path;
  }
  return undefined;
}
