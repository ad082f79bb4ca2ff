/**
 * Owns the explanation for a base that matches nothing because it was renamed while a merge into it was interrupted: the
 * journal then lies under the old name, and tells what the base was. Only speaks where the journal explains this base.
 */
import { dirname, join } from "node:path";
import type { OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import type { Storage } from "../../device/storage.ts";
import { CowError, shellWord } from "../../errors.ts";
import type { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { isExplained } from "./admission.ts";
import { JOURNAL_SUFFIX, type MergeJournal, readJournal } from "./journal.ts";

/** The error as it is, or with what a journal of this very merge under another name tells. */
export async function explainRename(
  storage: Storage,
  at: {
    readonly base: BlockDevice;
    readonly layer: CowfileLayer;
    readonly rdofile: string;
    readonly digest: string;
    readonly error: unknown;
  },
  context: OperationContext,
): Promise<unknown> {
  const { base, layer, digest, error } = at;
  if (!(error instanceof CowError) || error.code !== "wrong-base") return error;
  const own = storage.realPath(at.rdofile);
  for (const name of storage.list(dirname(own))) {
    const path = join(dirname(own), name);
    if (!name.endsWith(JOURNAL_SUFFIX) || storage.facts(path.slice(0, -JOURNAL_SUFFIX.length))) continue;
    const journal = tryRead(storage, path);
    if (journal?.cowfile_digest !== digest || journal.rdofile_size !== base.sizeBytes) continue;
    if (journal.fingerprint_before !== layer.base.fingerprint) continue;
    if (!(await isExplained(layer, base, journal, context))) continue;
    const rename = `mv ${shellWord(path)} ${shellWord(own + JOURNAL_SUFFIX)}`;
    return new CowError(error.code, error.message, {
      file: error.file,
      details: { ...error.details, journal: path },
      hints: [
        `${path} tells that the merge of this cowfile into a base of that name was interrupted, and fits this one: if it was renamed, \`${rename}\`, and the same command completes the merge`,
      ],
    });
  }
  return error;
}

function tryRead(storage: Storage, path: string): MergeJournal | undefined {
  try {
    return readJournal(storage, path);
  } catch {
    return undefined; // of no journal that cannot be read is it known whose it is
  }
}
