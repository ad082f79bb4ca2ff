/**
 * Owns merging layers that the merge of cowfiles into images does not know: layers of other formats, and stacks below a
 * layer. In place
 * - a dm-snapshot store is emptied into its origin as the kernel does it (store.ts);
 * - the blocks of any other layer are written over the base, and the layer stays unchanged: the view is the same before, while and
 *   after, so that the same command writes it all again after an interruption;
 * - a layer over a cowfile is merged into that, which is replaced as a whole (into-cowfile.ts).
 */
import type { OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { requireBelongs } from "../../stack/open.ts";
import { formatOfPart, openAsLayer } from "../../stack/open-part.ts";
import { filesOf } from "../../stack/part.ts";
import { howToOpen, type OpenFiles, refusePending, refuseSameFile } from "../files.ts";
import { hasOwnSize } from "../whole-image.ts";
import { changesFingerprint, holdsAll, sizeOf } from "./already.ts";
import { requireUndoubted } from "./doubts.ts";
import { intoCowfile } from "./into-cowfile.ts";
import { mergeIntoNewFile } from "./new-file.ts";
import type { AnyMerge, Merged, MergeRequest } from "./request.ts";
import { mergeStore, openForMerge } from "./store.ts";
import { requireSpace, writeLayer } from "./write-layer.ts";

/** @throws CowError as merge() */
export async function mergeAnyLayer(
  files: OpenFiles,
  merge: AnyMerge,
  request: MergeRequest,
  context: OperationContext,
): Promise<Merged> {
  if (request.undo !== undefined)
    throw new CowError("unsupported", "cannot be merged with an undo file: that goes with a cowfile over an image", {
      file: merge.cowfile,
      hints: ["`cowtool invert` keeps what would be overwritten"],
    });
  if (!request.force) refusePending(files.storage, merge.below.with(merge.layer), [], false);
  if (request.output !== undefined)
    return mergeIntoNewFile(files, merge, { ...request, output: request.output }, context);
  return merge.below.layers.length > 0
    ? intoCowfile(files, merge, request, context)
    : intoBase(files, merge, request, context);
}

async function intoBase(
  files: OpenFiles,
  { below: { base: basePart }, layer: layerPart, cowfile, rdofile }: AnyMerge,
  request: MergeRequest,
  context: OperationContext,
): Promise<Merged> {
  const { dryRun = false } = request;
  if (basePart.format !== undefined && basePart.format !== "raw")
    throw new CowError("unsupported", `is read as a ${basePart.format.title}, and not written`, {
      file: basePart.path,
      hints: ["--output FILE writes the result into a new image"],
    });
  refuseSameFile(files.storage, basePart.path, filesOf(layerPart));
  const how = howToOpen(request);
  const base = files.open(basePart.path, how);
  // The format, without a lock.
  const unlocked = { part: layerPart, file: files.open(layerPart.path, { lock: "none" }) };
  const isStore = formatOfPart(unlocked).isEmptiedByMerge ?? false;
  const opened = files.openPart(layerPart, isStore ? how : { lock: "shared" });
  const over = { allowDirty: false, backing: base, signal: context.signal };
  const { layer } = await openAsLayer(opened, over, () => files.scratch(cowfile));
  refuseSameFile(files.storage, basePart.path, opened.paths);
  await requireBelongs(layer, base, context.signal);
  const more = layer.virtualSizeBytes - base.sizeBytes;
  if (more > 0 || (more < 0 && hasOwnSize(layer)))
    throw new CowError(
      "unsuitable",
      `is an image of ${layer.virtualSizeBytes} bytes, ${more > 0 ? "larger" : "smaller"} than the base`,
      {
        file: layer.name,
        hints: ["--output FILE writes the result into a new image"],
      },
    );
  if (isStore) openForMerge(opened.file, base);
  await requireUndoubted(layer, request.force ?? false, context);
  const size = await sizeOf(layer, context);
  // A store is merged when it is empty, whatever its origin holds.
  const already = size.bytes === 0 || (!isStore && (await holdsAll(layer, base, context)));
  const fingerprintChanged = !already && (await changesFingerprint(base, layer, context));
  const merged = { ...size, already, fingerprintChanged };
  if (!already && !request.force) await requireSpace(files, base, layer, size, context);
  if (dryRun || (already && !isStore)) return merged;
  await request.confirm?.({ rdofile, cowfile, blocks: size.units, bytes: size.bytes, resumed: false });
  if (isStore) await mergeStore(opened.file, base, context);
  else await writeLayer(base, layer, size, context);
  return merged;
}
