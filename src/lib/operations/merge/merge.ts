/**
 * Owns `merge` as callers see it: one cowfile flattened into its base, or with it into a new image.
 */
import type { OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { OpenFiles, refuseSameFile, storageOf } from "../files.ts";
import { refuseSidecarName } from "../identity/sidecar.ts";
import { mergeInPlace } from "./in-place.ts";
import { refuseJournalName } from "./journal.ts";
import { mergeIntoNewFile } from "./new-file.ts";
import type { MergeRequest, MergeResult } from "./request.ts";

/**
 * Merges `cowfile` into `rdofile`, or into a new image. Everything is checked before the first write. Interrupted in
 * place (SIGKILL, full disk, signal), the same call completes it.
 *
 * @throws CowError `dirty`, `packed`, `truncated`, `damaged`, `bad-head`, `wrong-base`, `unsuitable`, `pending-merge`,
 *   `exists`, `usage`, `locked`, `no-space`, `permission`, `io`, `declined`, `interrupted`
 */
export async function merge(
  rdofile: string,
  cowfile: string,
  request: MergeRequest,
  context: OperationContext,
): Promise<MergeResult> {
  const { output } = request;
  if (output !== undefined && request.undo !== undefined) {
    throw new CowError("usage", "--undo goes with a merge in place: with --output the base is not changed");
  }
  if (request.undo === "") throw new CowError("usage", "an empty name is no undo file's", { file: "" });
  if (request.undo !== undefined) refuseJournalName(request.undo);
  if (request.undo !== undefined) refuseSidecarName(request.undo);
  if (request.undo !== undefined) refuseSameFile(storageOf(context), request.undo, [rdofile, cowfile]);
  if (output === undefined && storageOf(context).facts(rdofile)?.kind === "remote") {
    throw new CowError("usage", "is an export of an NBD server: only local files and block devices are merged into", {
      file: rdofile,
      hints: ["--output FILE writes the result into a new image"],
    });
  }
  return OpenFiles.during(context, (files) =>
    output === undefined
      ? mergeInPlace(files, rdofile, cowfile, request, context)
      : mergeIntoNewFile(files, { rdofile, cowfile, output }, request, context),
  );
}
