/**
 * Owns `merge` for callers: merges a layer into its backing, or writes both as a new image.
 */
import type { OperationContext } from "../../context.ts";
import { refuseOwnName } from "../../device/own-file.ts";
import { CowError } from "../../errors.ts";
import { requireFormat } from "../../formats/registry.ts";
import { refusePendingMerge } from "../../notes/journal-places.ts";
import { requireFileName } from "../../output/claim.ts";
import { parsePart, type StackPart, type StackSpec } from "../../stack/spec.ts";
import { OpenFiles, refuseSameFile } from "../files.ts";
import { mergeAnyLayer } from "./any-layer.ts";
import { giveUp } from "./give-up.ts";
import { mergeInPlace } from "./in-place.ts";
import { type MergeRequest, type MergeResult, resultOf } from "./request.ts";

/**
 * Merges `cowfile`, or a layer of any other format, into `rdofile`, or into a new image. Everything is checked before the first write. Interrupted in
 * place (SIGKILL, full disk, signal), the same call completes it.
 *
 * @throws CowError `dirty`, `packed`, `truncated`, `damaged`, `bad-head`, `wrong-base`, `unsuitable`, `pending-merge`,
 *   `exists`, `usage`, `locked`, `no-space`, `permission`, `io`, `declined`, `interrupted`
 */
export async function merge(
  rdofile: string,
  cowfile: string,
  request: MergeRequest = {},
  context: OperationContext = {},
): Promise<MergeResult> {
  const { output, undo } = request;
  if (request.giveUp && (output !== undefined || undo !== undefined))
    throw new CowError("usage", "--give-up merges nothing: it goes with neither --output nor --undo");
  if (output !== undefined && undo !== undefined) {
    throw new CowError("usage", "--undo goes with a merge in place: with --output the base is not changed");
  }
  if (undo === "") throw new CowError("usage", "--undo needs a file name", { file: "" });
  if (undo !== undefined) {
    requireFileName(undo);
    refuseOwnName(undo);
  }
  return OpenFiles.during(context, async (files) => {
    const { storage } = files;
    const below = files.stackSpec(rdofile);
    const layer = parsePart(cowfile);
    if (undo !== undefined) refuseSameFile(storage, undo, below.with(layer).files);
    if (output === undefined && storage.facts(below.top.path)?.kind === "remote") {
      throw new CowError("usage", "is an export of an NBD server: only local files and block devices are merged into", {
        file: below.top.path,
        hints: ["--output FILE writes the result into a new image"],
      });
    }
    const bare = { rdofile: below.base.path, cowfile: layer.path };
    if (request.giveUp)
      return resultOf({ ...bare, output: bare.rdofile }, request, await giveUp(files, bare, request, context));
    // If the cowfile of an interrupted merge is gone, the merge journal says what to do.
    if (!storage.facts(layer.path)) refusePendingMerge(storage, below.base.path, [layer.path], request.force);
    const simple = isCowfileOverImage(files, below, layer) ? bare : undefined;
    if (simple && output === undefined) {
      const done = await mergeInPlace(files, simple, request, context);
      return resultOf({ ...simple, output: simple.rdofile }, request, done);
    }
    const done = await mergeAnyLayer(files, { rdofile, cowfile, below, layer, simple }, request, context);
    return resultOf({ rdofile, cowfile, output: output ?? below.top.path }, request, done);
  });
}

/** Is it a cowfile over an image? Only such merges have fingerprints, a merge journal and undo files. */
function isCowfileOverImage(files: OpenFiles, { base, layers }: StackSpec, { format, path }: StackPart): boolean {
  if (layers.length > 0 || (base.format !== undefined && base.format !== "raw") || format === "raw") return false;
  // The cowfile's codec reports files of no format. The merge itself locks the file.
  return (format ?? requireFormat(files.open(path, { lock: "none" }))).recordsBase ?? false;
}
