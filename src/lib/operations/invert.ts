/**
 * Owns `invert`: swaps base and layer. The new base is the merged image. The new layer, a cowfile over it, has the old
 * base's contents of the blocks that the layer has allocated: new data over an old base becomes old data over a new
 * one, and back.
 */
import { widen } from "../bytes/extent.ts";
import { interrupted, makePause, type OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { CowError } from "../errors.ts";
import { takeFingerprint } from "../formats/cowfile/fingerprint.ts";
import { hasCowMagic, isDirty } from "../formats/cowfile/head.ts";
import { CowfileLayer } from "../formats/cowfile/layer.ts";
import { BLOCK_BYTES, type CowAbi } from "../formats/cowfile/layout.ts";
import { packKind } from "../formats/cowfile/pack/kind.ts";
import { allocatedBy, LayeredImage } from "../formats/layered-image.ts";
import { headOf } from "../formats/registry.ts";
import { claimOutput, mayReplace, type Overwrite } from "../output/claim.ts";
import { isSame } from "../output/differences.ts";
import { belowLayer, Overlay } from "../stack/overlay.ts";
import { parsePart } from "../stack/part.ts";
import { OpenFiles, refusePending, refuseSameFile } from "./files.ts";
import { requireFit } from "./fit.ts";
import { requireSameBases } from "./identity/stack-bases.ts";
import { sizeOf } from "./merge/already.ts";
import { noticeUnmarkedOf } from "./merge/doubts.ts";
import { type CowfileFacts, cowfileFacts, fillCowfile } from "./new-cowfile.ts";
import { wholeView, writeWhole } from "./whole-image.ts";

/** What `invert` is asked for. */
export interface InvertRequest extends Overwrite {
  /** The new base. */
  readonly output: string;
  /** The new layer. */
  readonly layer: string;
  readonly abi?: CowAbi;
}

/** About the new layer. */
export interface InvertResult extends CowfileFacts {
  readonly base: string;
  readonly layer: string;
  readonly new_base: string;
  readonly new_layer: string;
  /** Both files were there already, with the same contents: nothing was written. */
  readonly already_done: boolean;
}

/**
 * Writes both new files; the new layer over the new base shows the old base, bit for bit. Each appears whole; a run that
 * was killed between the two is finished by the same call.
 *
 * @param base a stack
 * @param layer one part
 * @throws CowError `usage`, `unsuitable` (a layer that changes the size), `exists`, and as for opening a stack; `no-space`,
 *   `io`, `interrupted`
 */
export async function invert(
  base: string,
  layer: string,
  request: InvertRequest,
  context: OperationContext = {},
): Promise<InvertResult> {
  const { output, layer: newLayer, abi = "le64" } = request;
  return OpenFiles.during(context, async (files) => {
    const { storage } = files;
    const spec = files.stackSpec(base).with(parsePart(layer));
    refusePending(storage, spec, [output, newLayer], request.force);
    const stack = await files.openStack(spec, request.force);
    for (const path of [output, newLayer]) refuseSameFile(storage, path, stack.paths);
    if (storage.realPath(output) === storage.realPath(newLayer))
      throw new CowError("usage", "cannot be the new base and the new layer", { file: output });
    const below = belowLayer(stack, stack.layers.length);
    const rdoBlocks = requireFit(below, stack.device, abi, context);
    await requireSameBases(files, stack, { way: undefined }, context);
    await noticeUnmarkedOf(stack.layers, context, "in the new files");
    const at = { below, image: stack.device, output, newLayer, rdoBlocks };
    const isAsked = [output, newLayer].some((path) => mayReplace(request, path));
    const found = isAsked ? {} : await madeBefore(files, at, context);
    if (!found.base) claimOutput(files, output, request, "raw");
    if (!found.layer) claimOutput(files, newLayer, request, "cowfile");
    const fillLayer = async (target: BlockDevice): Promise<Inverse> => {
      const end = rdoBlocks * BLOCK_BYTES;
      const view = new LayeredImage(stack.base.name, stack.base, stack.layers.slice(0, -1));
      const held = widen(allocatedBy(stack.layers.slice(-1), 0, end), BLOCK_BYTES, end);
      const job = { target, abi, base: stack.device, rdoBlocks, view, held, phase: "keeping the old base" };
      const { writer, fingerprint } = await fillCowfile(files, job, context);
      return { blocksUsed: writer.blocksUsed, fingerprint };
    };
    const wasThere = storage.facts(output) !== undefined;
    let isHalfDone = false;
    const fillBoth = async (layerTarget: BlockDevice): Promise<Inverse> => {
      if (found.base) return fillLayer(layerTarget);
      const inverse = await files.write(output, stack.paths, request, async (target) => {
        const stopped = () => interrupted(output, "it was not created, and the inputs are as they were");
        const view = wholeView(stack, below.sizeBytes);
        await writeWhole({ view, base: stack.base, target, phase: "merging", stopped }, context);
        return fillLayer(layerTarget);
      });
      isHalfDone = true;
      return inverse;
    };
    const write = () => files.write(newLayer, stack.paths, request, fillBoth);
    const made = await (found.layer ??
      write().catch((error: unknown) => {
        if (isHalfDone && !wasThere) storage.remove(output);
        throw error;
      }));
    const facts = cowfileFacts(abi, rdoBlocks, made.fingerprint, made.blocksUsed);
    const names = { base, layer, new_base: output, new_layer: newLayer };
    return { ...names, ...facts, already_done: found.layer !== undefined };
  });
}

interface Inverse {
  readonly blocksUsed: number;
  readonly fingerprint: number;
}

/**
 * The files that a killed run has left, recognised by their content alone. The new base is valid if it is the merged
 * image, the new layer if it reads as the old base over that.
 */
async function madeBefore(
  files: OpenFiles,
  at: {
    readonly below: BlockDevice;
    readonly image: BlockDevice;
    readonly output: string;
    readonly newLayer: string;
    readonly rdoBlocks: number;
  },
  context: OperationContext,
): Promise<{ readonly base?: true; readonly layer?: Inverse }> {
  const { below, image, output, newLayer, rdoBlocks } = at;
  const { storage } = files;
  const sizeBytes = Math.max(below.sizeBytes, image.sizeBytes);
  const facts = storage.facts(output);
  if (facts?.kind !== "file" || facts.sizeBytes !== sizeBytes) return {};
  const base = files.open(output, { lock: "shared" });
  const pause = makePause(context.signal, () => interrupted(output, "nothing was changed"));
  if (!(await isSame(base, image, [0, image.sizeBytes], pause))) return {};
  if (!(await isSame(base, below, [image.sizeBytes, sizeBytes], pause))) return {};
  if (storage.facts(newLayer)?.kind !== "file") return { base: true };
  const file = files.open(newLayer, { lock: "shared" });
  if (!hasCowMagic(headOf(file)) || packKind(file)) return { base: true };
  const layer = new CowfileLayer(file, { allowDirty: true });
  const { value: fingerprint } = await takeFingerprint(base, rdoBlocks, { signal: context.signal });
  const isOver =
    !isDirty(layer.opened.head) && layer.base.blocks === rdoBlocks && layer.base.fingerprint === fingerprint;
  const shown = new Overlay(newLayer, base, [layer]);
  if (!isOver || !(await isSame(shown, below, [0, shown.sizeBytes], pause))) return { base: true };
  return { base: true, layer: { blocksUsed: (await sizeOf(layer, context)).units, fingerprint } };
}
