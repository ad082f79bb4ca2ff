/**
 * Owns taking an interrupted merge back: its undo file holds every block that the merge may have overwritten.
 */
import type { OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import type { FoundJournal } from "../../notes/journal-places.ts";
import type { OpenFiles } from "../files.ts";
import { fingerprintBefore, type Pair } from "./pair.ts";
import type { Merged, MergeRequest } from "./request.ts";
import { makeSignOfLife, requireNoLaterChange } from "./untouched.ts";
import { writeLayer } from "./write-layer.ts";

/**
 * Takes an interrupted merge back. If this is interrupted, both ways stay open: the merge journal stays until all is done.
 *
 * @throws CowError `pending-merge` if it is not that merge's undo file; `wrong-base` if the journal does not explain the base;
 *   `usage`; as writeLayer
 */
export async function takeBack(
  files: OpenFiles,
  at: Pair & { readonly found: FoundJournal },
  request: MergeRequest,
  context: OperationContext,
): Promise<Merged> {
  const { base, layer, rdofile, cowfile, size, found, places } = at;
  const { undo, force, dryRun } = request;
  const details = { journal: found.path };
  if (undo !== undefined)
    throw new CowError("usage", "--undo makes no sense while an interrupted merge is taken back", { file: cowfile });
  if (layer.base.fingerprint !== found.journal.fingerprint_after)
    throw new CowError("pending-merge", "is not the undo file that the interrupted merge had saved", {
      file: cowfile,
      details,
    });
  if (!force && !(await fingerprintBefore(at, found.journal, context)))
    throw new CowError("wrong-base", `is not the base that ${found.path} describes, or was changed since`, {
      file: rdofile,
      details,
      hints: ["--force writes the undo file's blocks anyway"],
    });
  if (!force) requireNoLaterChange(files.storage, rdofile, found);
  const result = { ...size, takenBack: true };
  if (dryRun) return result;
  await request.confirm?.({ rdofile, cowfile, blocks: size.units, bytes: size.bytes, resumed: false });
  const beat = makeSignOfLife(files.open(found.path, { writable: true, own: true }));
  await writeLayer(base, layer, size, context, beat);
  places.remove(found.journal, found.path);
  return result;
}
