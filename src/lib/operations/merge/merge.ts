/**
 * Owns `merge` as callers see it: a layer flattened into what lies below it, or with that into a new image.
 */
import type { OperationContext } from "../../context.ts";
import { refuseOwnName } from "../../device/own-file.ts";
import { CowError } from "../../errors.ts";
import type { LayerFormat } from "../../formats/format.ts";
import { requireFormat } from "../../formats/registry.ts";
import { parsePart } from "../../stack/spec.ts";
import { OpenFiles, partsOf, refuseSameFile, storageOf } from "../files.ts";
import { mergeAnyLayer } from "./any-layer.ts";
import { giveUp } from "./give-up.ts";
import { mergeInPlace } from "./in-place.ts";
import { refusePendingMerge } from "./journal-places.ts";
import type { MergeRequest, MergeResult } from "./request.ts";

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
  request: MergeRequest,
  context: OperationContext,
): Promise<MergeResult> {
  const { output } = request;
  if (request.giveUp && (output !== undefined || request.undo !== undefined))
    throw new CowError("usage", "--give-up merges nothing: it goes with neither --output nor --undo");
  if (output !== undefined && request.undo !== undefined) {
    throw new CowError("usage", "--undo goes with a merge in place: with --output the base is not changed");
  }
  if (request.undo === "") throw new CowError("usage", "--undo needs a file name", { file: "" });
  if (request.undo !== undefined) refuseOwnName(request.undo);
  if (request.undo !== undefined) refuseSameFile(storageOf(context), request.undo, [rdofile, cowfile]);
  if (output === undefined && storageOf(context).facts(rdofile)?.kind === "remote") {
    throw new CowError("usage", "is an export of an NBD server: only local files and block devices are merged into", {
      file: rdofile,
      hints: ["--output FILE writes the result into a new image"],
    });
  }
  return OpenFiles.during(context, (files) => {
    if (request.giveUp) return giveUp(files, rdofile, cowfile, request, context);
    // The journal tells what to do where a cowfile is gone whose merge was interrupted.
    const layer = parsePart(cowfile).path;
    if (!files.storage.facts(layer)) refusePendingMerge(files.storage, rdofile, [layer], request.force);
    const parts = partsOf(files.storage, rdofile);
    const simple = ofCowfileAndImage(files, parts, cowfile);
    return simple && output === undefined
      ? mergeInPlace(files, simple.rdofile, simple.cowfile, request, context)
      : mergeAnyLayer(files, { rdofile, cowfile, parts, simple }, request, context);
  });
}

/** Their files, where it is an image and a cowfile, whose merge has fingerprints, a journal and undo files. */
function ofCowfileAndImage(
  files: OpenFiles,
  parts: readonly string[],
  cowfile: string,
): { readonly rdofile: string; readonly cowfile: string } | undefined {
  const [base, ...layers] = parts.map(parsePart);
  if (!base || layers.length > 0 || (base.format !== undefined && base.format !== "raw")) return undefined;
  const layer = parsePart(cowfile);
  const isOther = layer.format === "raw" || (layer.format ?? detectFormatAt(files, layer.path))?.id !== "cowfile";
  return isOther ? undefined : { rdofile: base.path, cowfile: layer.path };
}

/** What is of no format is judged by the cowfile's codec. The merge itself locks the file. */
function detectFormatAt(files: OpenFiles, path: string): LayerFormat {
  return requireFormat(files.open(path, { lock: "none" }));
}
