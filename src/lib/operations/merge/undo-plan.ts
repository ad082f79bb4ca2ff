/**
 * Owns the decision which undo file a merge writes: none, a new one, or the one that an interrupted merge has saved.
 * Never lets one be made from a base that is partly merged already.
 */
import { CowError } from "../../errors.ts";
import type { OpenFiles } from "../files.ts";
import { sameHead } from "./journal.ts";
import type { FoundJournal } from "./journal-places.ts";
import type { MergeRequest } from "./request.ts";

/** Is the undo file that this merge would write there already? Then an earlier run may have done everything. */
export function isUndoThere(files: OpenFiles, request: MergeRequest, headBlock: Uint8Array): boolean {
  const path = request.undo === undefined ? undefined : files.storage.realPath(request.undo);
  return path !== undefined && files.storage.facts(path)?.kind === "file" && isSameHead(files, path, headBlock);
}

export interface UndoPlan {
  readonly path: string | null;
  /** It was completed by the merge that was interrupted. */
  readonly kept: boolean;
  readonly replace: boolean;
}

/** Which undo file is to be written, if any. @throws CowError `exists`, `pending-merge`, `usage` */
export function planUndo(
  files: OpenFiles,
  request: MergeRequest,
  at: { rdofile: string; cowfile: string; journal: FoundJournal | undefined; headBlock: Uint8Array },
): UndoPlan {
  const { storage } = files;
  const journal = at.journal?.journal;
  if (request.undo === undefined)
    return { path: journal?.undo_saved ? journal.undo : null, kept: true, replace: false };
  const path = storage.realPath(request.undo);
  if (at.journal && journal && journal.undo !== path) {
    throw new CowError(
      "pending-merge",
      "holds a part of this cowfile already, from a merge that was interrupted: what that overwrote cannot be saved any more",
      {
        file: at.rdofile,
        details: { journal: at.journal.path },
        hints: [journal.undo === null ? "complete it without --undo" : `complete it with --undo ${journal.undo}`],
      },
    );
  }
  const there = storage.facts(path);
  const ours = there?.kind === "file" && isSameHead(files, path, at.headBlock);
  if (journal?.undo_saved) {
    if (ours) return { path, kept: true, replace: false };
    throw new CowError("pending-merge", "is not the undo file that the interrupted merge had saved", {
      file: path,
      hints: ["complete the merge without --undo"],
    });
  }
  // Between the undo file's appearance and the note that it is complete, the base was not touched: it may be made again.
  if (there && !(journal && ours))
    throw new CowError("exists", "already exists; an undo file is never overwritten", { file: request.undo });
  return { path, kept: false, replace: there !== undefined };
}

function isSameHead(files: OpenFiles, path: string, headBlock: Uint8Array): boolean {
  return sameHead(files.open(path, { lock: "shared" }), headBlock);
}
