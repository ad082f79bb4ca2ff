/**
 * Owns the writing itself: a layer's blocks into a base, flushed at the end. Writing the same blocks again is no change,
 * which is what makes an interrupted merge go on.
 */
import { type Extent, intersect } from "../../bytes/extent.ts";
import { interrupted, makePause, type OperationContext, type Pause } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { Copier } from "../../device/copy.ts";
import { CowError } from "../../errors.ts";
import type { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { totalLength } from "../../formats/walk-extents.ts";
import type { OpenFiles } from "../files.ts";

/** A copy is cut into pieces of this size, so that a signal is noticed within one of them. */
export const PIECE_BYTES = 32 << 20;

/** How many blocks the layer holds. */
export async function countBlocks(layer: CowfileLayer, context: OperationContext): Promise<number> {
  return (await totalLength(layer.extents(0, layer.virtualSizeBytes), pauseBefore(layer, context))) / BLOCK_BYTES;
}

/** A pause while nothing was changed yet. */
function pauseBefore(layer: CowfileLayer, { signal }: OperationContext): Pause {
  return makePause(signal, () => interrupted(layer.name, "nothing was changed"));
}

/**
 * Copies every block that the layer holds, and makes the base durable.
 *
 * @param beforePiece called before each write
 * @throws CowError `io`, `no-space`; `interrupted`, with the base flushed, when the signal fires
 */
export async function writeBlocks(
  base: BlockDevice,
  layer: CowfileLayer,
  context: OperationContext,
  beforePiece: () => void,
): Promise<void> {
  const blocks = await countBlocks(layer, context);
  const copier = new Copier();
  let done = 0;
  const pause = makePause(context.signal, () => {
    base.flush();
    return interrupted(
      base.name,
      `it holds ${done / BLOCK_BYTES} of ${blocks} blocks; the same command completes the merge of ${layer.name}`,
    );
  });
  for (const extent of layer.extents(0, layer.virtualSizeBytes)) {
    await pause();
    for (const { offset, length } of pieces(extent)) {
      await pause();
      beforePiece();
      copier.copy({
        source: layer.source,
        sourceOffset: layer.locate(offset),
        target: base,
        targetOffset: offset,
        length,
      });
      done += length;
      context.onProgress?.({ phase: "merging", done, total: blocks * BLOCK_BYTES, unit: "bytes" });
    }
  }
  base.flush();
}

function* pieces({ offset, length }: Extent): Generator<Extent> {
  for (let at = 0; at < length; at += PIECE_BYTES)
    yield { offset: offset + at, length: Math.min(PIECE_BYTES, length - at) };
}

/** @throws CowError `no-space` if the holes of the base that will be filled need more than is free */
export async function requireSpace(
  files: OpenFiles,
  base: BlockDevice,
  layer: CowfileLayer,
  force: boolean,
  context: OperationContext,
): Promise<void> {
  if (!base.seesHoles || force) return;
  let needed = (await countBlocks(layer, context)) * BLOCK_BYTES;
  const end = layer.virtualSizeBytes;
  const filled = intersect(layer.extents(0, end), base.dataExtents(0, end));
  needed -= await totalLength(filled, pauseBefore(layer, context));
  const free = files.storage.freeBytes(base.name);
  if (free === undefined || needed <= free) return;
  throw new CowError(
    "no-space",
    `the merge fills ${needed} bytes of holes, but only ${free} bytes are free; nothing was changed`,
    {
      file: base.name,
      details: { needed_bytes: needed, free_bytes: free },
      hints: ["--force begins anyway (on a file system that compresses or shares blocks it may fit)"],
    },
  );
}
