/**
 * Owns the traces of an interrupted merge into a base that goes by another name now. Its journal is then found under the old
 * name, and tells what the base was; the note beside the cowfile tells that a merge of it has begun. From such a base no undo
 * file is made: what it would have to hold is overwritten.
 */
import { join } from "node:path";
import type { OperationContext } from "../../context.ts";
import type { Storage } from "../../device/storage.ts";
import { CowError, shellWord } from "../../errors.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import type { Merging } from "../identity/merge-guard.ts";
import { readSidecar } from "../identity/sidecar.ts";
import { isExplained } from "./admission.ts";
import { holdsAny } from "./already.ts";
import { directoriesOf, JOURNAL_SUFFIX, type MergeJournal, readJournal } from "./journal.ts";

interface Suspected extends Merging {
  /** Of the cowfile. */
  readonly digest: string;
}

/** The error as it is, or with what a journal of this very merge under another name tells. */
export async function explainRename(
  storage: Storage,
  at: Suspected & { readonly error: unknown },
  context: OperationContext,
): Promise<unknown> {
  const { error } = at;
  if (!(error instanceof CowError) || error.code !== "wrong-base") return error;
  const path = await journalOfOldName(storage, at, context);
  if (path === undefined) return error;
  return new CowError(error.code, error.message, {
    file: error.file,
    details: { ...error.details, journal: path },
    hints: [renameHint(storage, at, path)],
  });
}

/** @throws CowError `pending-merge` where an undo file would be made of a base that is half merged already */
export async function refuseLateUndo(storage: Storage, at: Suspected, context: OperationContext): Promise<void> {
  const path = await journalOfOldName(storage, at, context);
  const sidecar = readSidecar(storage, at.cowfile, at.layer.base);
  const hasBegun = sidecar.state === "own" && sidecar.record.merged;
  if (path === undefined && !(hasBegun && (await holdsAny(at.layer, at.base, BLOCK_BYTES, context)))) return;
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

function renameHint(storage: Storage, { rdofile }: Suspected, journal: string): string {
  const rename = `mv ${shellWord(journal)} ${shellWord(storage.realPath(rdofile) + JOURNAL_SUFFIX)}`;
  return `${journal} tells that the merge of this cowfile into a base of that name was interrupted, and fits this one: if it was renamed, \`${rename}\`, and the same command completes the merge`;
}

/** A journal of a merge of this cowfile into a base of which nothing is left under its name, and that explains this one. */
async function journalOfOldName(
  storage: Storage,
  { base, layer, rdofile, cowfile, digest }: Suspected,
  context: OperationContext,
): Promise<string | undefined> {
  for (const directory of directoriesOf(storage, [rdofile, cowfile])) {
    for (const name of storage.list(directory)) {
      const path = join(directory, name);
      if (!name.endsWith(JOURNAL_SUFFIX) || storage.facts(path.slice(0, -JOURNAL_SUFFIX.length))) continue;
      const journal = tryRead(storage, path);
      if (journal?.cowfile_digest !== digest || journal.rdofile_size !== base.sizeBytes) continue;
      if (journal.fingerprint_before !== layer.base.fingerprint) continue;
      if (await isExplained(layer, base, journal, context)) return path;
    }
  }
  return undefined;
}

function tryRead(storage: Storage, path: string): MergeJournal | undefined {
  try {
    return readJournal(storage, path);
  } catch {
    return undefined; // of no journal that cannot be read is it known whose it is
  }
}
