/**
 * Owns `invert`: base and layer exchanged. The new base is the merged image, and the new layer, a cowfile over it, holds what
 * the old base had in the places that the layer holds: new data over an old base becomes old data over a new one, and back.
 */
import { widen } from "../bytes/extent.ts";
import { interrupted, makeYielder, type OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { CowError } from "../errors.ts";
import { takeFingerprint } from "../formats/cowfile/fingerprint.ts";
import { formatFingerprint, hasCowMagic, isDirty } from "../formats/cowfile/head.ts";
import { CowfileLayer } from "../formats/cowfile/layer.ts";
import { BLOCK_BYTES, type CowAbi } from "../formats/cowfile/layout.ts";
import { packKind } from "../formats/cowfile/pack/kind.ts";
import { LayeredImage } from "../formats/layered-image.ts";
import { headOf } from "../formats/registry.ts";
import { claimOutput, mayReplace, type Overwrite } from "../output/claim.ts";
import { differences } from "../output/differences.ts";
import { writeCowfile } from "../output/write-cowfile.ts";
import { Overlay } from "../stack/overlay.ts";
import { parsePart } from "../stack/spec.ts";
import { requireSameShape, requireUsableSize } from "./create.ts";
import { OpenFiles, refusePending, refuseSameFile } from "./files.ts";
import { forgetOld } from "./identity/take.ts";
import { sizeOf } from "./merge/already.ts";
import { noticeUnmarkedOf } from "./merge/doubts.ts";
import { belowLayer } from "./squash.ts";
import { wholeView, writeWhole } from "./whole-image.ts";

export interface InvertRequest extends Overwrite {
  /** The new base. */
  readonly output: string;
  /** The new layer. */
  readonly layer: string;
  readonly abi?: CowAbi;
}

export interface InvertResult {
  readonly base: string;
  readonly layer: string;
  readonly new_base: string;
  readonly new_layer: string;
  readonly abi: CowAbi;
  readonly virtual_size: number;
  readonly rdo_blocks: number;
  /** Of the new base. */
  readonly fingerprint: string;
  readonly blocks_used: number;
  /** Both files were there already, as this very exchange makes them: nothing was written. */
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
    const top = stack.layers.at(-1);
    if (!top) throw new CowError("usage", "a base without a layer cannot be inverted", { file: base });
    for (const path of [output, newLayer]) refuseSameFile(storage, path, stack.paths);
    if (storage.realPath(output) === storage.realPath(newLayer))
      throw new CowError("usage", "cannot be the new base and the new layer", { file: output });
    const below = belowLayer(stack, stack.layers.length);
    const rdoBlocks = requireUsableSize(below, abi, context);
    requireSameShape(below, stack.device, rdoBlocks);
    await noticeUnmarkedOf(stack.layers, context, "in the new files");
    const at = { below, image: stack.device, output, newLayer, rdoBlocks };
    const made = [output, newLayer].some((path) => mayReplace(request, path))
      ? {}
      : await madeBefore(files, at, context);
    if (!made.base) claimOutput(files, output, request, "raw");
    if (!made.layer) claimOutput(files, newLayer, request, "cowfile");
    const fillLayer = async (target: BlockDevice): Promise<Inverse> => {
      const view = new LayeredImage(stack.base.name, stack.base, stack.layers.slice(0, -1));
      const end = rdoBlocks * BLOCK_BYTES;
      const held = widen(top.extents(0, top.virtualSizeBytes), BLOCK_BYTES, end);
      const job = { target, abi, base: stack.device, rdoBlocks, view, held, phase: "keeping the old base" };
      const { writer, fingerprint } = await writeCowfile(job, context);
      forgetOld(storage, newLayer, context);
      return { blocksUsed: writer.blocksUsed, fingerprint };
    };
    const wasThere = storage.facts(output) !== undefined;
    let isHalfDone = false;
    const fillBoth = async (layerTarget: BlockDevice): Promise<Inverse> => {
      if (made.base) return fillLayer(layerTarget);
      const inverse = await files.write(output, stack.paths, request, async (target) => {
        const stopped = () => interrupted(output, "it was not created, and the inputs are as they were");
        const view = wholeView(stack, below.sizeBytes);
        await writeWhole({ view, base: stack.base, target, phase: "merging", stopped }, context);
        return fillLayer(layerTarget);
      });
      isHalfDone = true;
      return inverse;
    };
    const making = made.layer ?? files.write(newLayer, stack.paths, request, fillBoth);
    const { blocksUsed, fingerprint } = await Promise.resolve(making).catch((error: unknown) => {
      if (isHalfDone && !wasThere) storage.remove(output);
      throw error;
    });
    return {
      base,
      layer,
      new_base: output,
      new_layer: newLayer,
      abi,
      virtual_size: rdoBlocks * BLOCK_BYTES,
      rdo_blocks: rdoBlocks,
      fingerprint: formatFingerprint(fingerprint),
      blocks_used: blocksUsed,
      already_done: made.layer !== undefined,
    };
  });
}

interface Inverse {
  readonly blocksUsed: number;
  readonly fingerprint: number;
}

/**
 * What a run that was killed between the two names, or after them, has left: told by its content alone. The new base counts
 * if it is the merged image, the new layer if it shows the old base over that.
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
  if (!(await isSame(base, image, 0, image.sizeBytes, context))) return {};
  if (!(await isSame(base, below, image.sizeBytes, sizeBytes, context))) return {};
  if (storage.facts(newLayer)?.kind !== "file") return { base: true };
  const file = files.open(newLayer, { lock: "shared" });
  if (!hasCowMagic(headOf(file)) || packKind(file)) return { base: true };
  const layer = new CowfileLayer(file, { allowDirty: true });
  const { value: fingerprint } = await takeFingerprint(base, rdoBlocks, { signal: context.signal });
  const isOver =
    !isDirty(layer.opened.head) && layer.base.blocks === rdoBlocks && layer.base.fingerprint === fingerprint;
  const shown = new Overlay(newLayer, base, [layer]);
  if (!isOver || !(await isSame(shown, below, 0, shown.sizeBytes, context))) return { base: true };
  return { base: true, layer: { blocksUsed: (await sizeOf(layer, context)).units, fingerprint } };
}

async function isSame(
  a: BlockDevice,
  b: BlockDevice,
  from: number,
  to: number,
  context: OperationContext,
): Promise<boolean> {
  const yieldToEventLoop = makeYielder();
  for (const { length } of differences(a, b, BLOCK_BYTES, from, to)) {
    if (length > 0) return false;
    if (context.signal?.aborted) throw interrupted(a.name, "nothing was changed");
    await yieldToEventLoop();
  }
  return true;
}
