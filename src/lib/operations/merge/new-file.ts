/**
 * Owns merging a layer of any format and what is below it into a new image (`merge -o`). All inputs are only read; the image
 * appears whole, or not at all.
 */
import { interrupted, type OperationContext } from "../../context.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { fitsSize } from "../../formats/format.ts";
import { claimOutput } from "../../output/claim.ts";
import { requireBelongs } from "../../stack/open.ts";
import { openAsLayer } from "../../stack/open-part.ts";
import { parsePart } from "../../stack/part.ts";
import { StackSpec } from "../../stack/spec.ts";
import { type OpenFiles, refuseSameFile } from "../files.ts";
import { requireSameBases } from "../identity/stack-bases.ts";
import { hasOwnSize, wholeView, writeWhole } from "../whole-image.ts";
import { sizeOf } from "./already.ts";
import { noticeUnmarked, requireSound } from "./doubts.ts";
import { refuseCowfileAsBase, requireSize } from "./pair.ts";
import type { AnyMerge, Merged, MergeRequest } from "./request.ts";

/** @throws CowError as merge() */
export async function mergeIntoNewFile(
  files: OpenFiles,
  { below, layer: layerPart, simple }: AnyMerge,
  request: MergeRequest & { readonly output: string },
  context: OperationContext,
): Promise<Merged> {
  const { output, force = false } = request;
  const { signal } = context;
  if (simple) refuseCowfileAsBase(files.open(simple.rdofile, { lock: "shared" }), force);
  const under = await files.openStack(simple ? new StackSpec([parsePart(`raw:${simple.rdofile}`)]) : below, force);
  const part = files.openPart(layerPart, { lock: "shared" });
  refuseSameFile(files.storage, output, [...under.paths, ...part.paths]);
  const options = { allowDirty: force, backing: under.device, signal };
  const { layer } = await openAsLayer(part, options, () => files.scratch(part.part.path));
  if (layer instanceof CowfileLayer) {
    if (!fitsSize(layer.base, Math.floor(under.device.sizeBytes / layer.base.blockBytes)))
      requireSize(layer, under.device, force);
    await requireSound(layer, force, context);
  }
  for (const message of layer.warnings ?? []) context.onNotice?.({ severity: "warning", file: layer.name, message });
  const unmarked = await noticeUnmarked(layer, context, "merged");
  if (!force) await requireBelongs(layer, under.device, signal);
  const stack = { ...under, spec: below.with(layerPart), layers: [...under.layers, layer] };
  await requireSameBases(files, stack, { way: undefined }, context);
  const allowed = { force: request.replaceOutput ?? force, replace: request.replace };
  claimOutput(files, output, allowed, "raw");
  const size = await sizeOf(layer, context);
  const merged = { ...size, unmarked };
  if (request.dryRun) return merged;
  const view = wholeView(stack, hasOwnSize(layer) ? layer.virtualSizeBytes : under.device.sizeBytes);
  const stopped = () => interrupted(output, "it was not created, and the inputs are as they were");
  await files.write(output, [...under.paths, ...part.paths], allowed, (target) =>
    writeWhole({ view, base: under.base, target, phase: "merging", stopped }, context),
  );
  return merged;
}
