/**
 * Owns `invert`: base and layer exchanged. The new base is the merged image, and the new layer, a cowfile over it, holds what
 * the old base had in the places that the layer holds: new data over an old base becomes old data over a new one, and back.
 */
import type { OperationContext } from "../context.ts";
import { CowError } from "../errors.ts";
import { formatFingerprint } from "../formats/cowfile/head.ts";
import { BLOCK_BYTES, type CowAbi } from "../formats/cowfile/layout.ts";
import { claimOutput, mayReplace, type Overwrite } from "./claim-output.ts";
import { requireSameShape, requireUsableSize } from "./create.ts";
import { OpenFiles, refusePending, refuseSameFile, stackOver } from "./files.ts";
import { fillCowfile } from "./fill-cowfile.ts";
import { forgetOld } from "./identity/take.ts";
import { fillImage } from "./merge/fill-image.ts";
import { belowLayer } from "./squash.ts";

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
}

/**
 * Writes both new files; the new layer over the new base shows the old base, bit for bit. Both appear whole, or neither.
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
  context: OperationContext,
): Promise<InvertResult> {
  const { output, layer: newLayer, abi = "le64" } = request;
  return OpenFiles.during(context, async (files) => {
    const { storage } = files;
    const text = stackOver(storage, base, layer);
    refusePending(files, text, [output, newLayer]);
    const stack = await files.openStack(text);
    const top = stack.layers.at(-1);
    if (!top) throw new CowError("usage", "a base without a layer cannot be exchanged with one", { file: base });
    for (const path of [output, newLayer]) refuseSameFile(storage, path, stack.paths);
    if (storage.realPath(output) === storage.realPath(newLayer))
      throw new CowError("usage", "cannot be the new base and the new layer", { file: output });
    const below = belowLayer(stack, stack.layers.length);
    const rdoBlocks = requireUsableSize(below, abi, context);
    requireSameShape(below, stack.device, rdoBlocks);
    claimOutput(files, output, request, "raw");
    claimOutput(files, newLayer, request, "cowfile");
    const merged = files.create(output, stack.paths);
    const inverse = files.create(newLayer, stack.paths);
    const job = { base: below, layer: top, target: merged.device, output, total: 0 };
    await fillImage(job, context);
    const { cowfile, fingerprint } = await fillCowfile(
      {
        target: inverse.device,
        abi,
        base: stack.device,
        rdoBlocks,
        image: below,
        extents: top.extents(0, top.virtualSizeBytes),
        phase: "keeping the old base",
      },
      context,
    );
    forgetOld(storage, newLayer, context);
    const wasThere = storage.facts(output) !== undefined;
    merged.commit({ replace: mayReplace(request, output) });
    try {
      inverse.commit({ replace: mayReplace(request, newLayer) });
    } catch (error) {
      if (!wasThere) storage.remove(output);
      throw error;
    }
    return {
      base,
      layer,
      new_base: output,
      new_layer: newLayer,
      abi,
      virtual_size: rdoBlocks * BLOCK_BYTES,
      rdo_blocks: rdoBlocks,
      fingerprint: formatFingerprint(fingerprint),
      blocks_used: cowfile.blocksUsed,
    };
  });
}
