/**
 * Owns the writing itself: a layer's blocks into a base, flushed at the end. Writing them again changes nothing, so the
 * same command can complete an interrupted merge.
 */
import { intersect } from "../../bytes/extent.ts";
import { interrupted, makePause, type OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { Copier } from "../../device/copy.ts";
import { CowError } from "../../errors.ts";
import type { Layer } from "../../formats/format.ts";
import { totalLength } from "../../formats/walk-extents.ts";
import type { OpenFiles } from "../files.ts";
import type { Size } from "./already.ts";

/** A copy is split into pieces of this size, so that a signal is noticed within one piece. */
const PIECE_BYTES = 32 << 20;

/**
 * Copies all blocks of the layer, and makes the base durable.
 *
 * @param beforePiece called before each write
 * @throws CowError `io`, `no-space`; `interrupted`, with the base flushed, when the signal fires
 */
export async function writeLayer(
  base: BlockDevice,
  layer: Layer,
  { units, bytes: total }: Size,
  { signal, onProgress }: OperationContext,
  beforePiece: () => void = () => undefined,
): Promise<void> {
  const copier = new Copier();
  let done = 0;
  const pause = makePause(signal, () => {
    base.flush();
    const blocks = Math.floor(done / layer.granularityBytes);
    return interrupted(
      base.name,
      `it holds ${blocks} of ${units} blocks; the same command completes the merge of ${layer.name}`,
    );
  });
  for (const { offset, length, source, at } of layer.places(0, layer.virtualSizeBytes)) {
    await pause();
    for (let from = 0; from < length; from += PIECE_BYTES) {
      const size = Math.min(PIECE_BYTES, length - from);
      await pause();
      beforePiece();
      copier.copy({ source, sourceOffset: at + from, target: base, targetOffset: offset + from, length: size });
      done += size;
      onProgress?.({ phase: "merging", done, total: Math.max(done, total), unit: "bytes" });
    }
  }
  base.flush();
}

/** @throws CowError `no-space` if the holes of the base that will be filled need more than is free */
export async function requireSpace(
  { storage }: OpenFiles,
  base: BlockDevice,
  layer: Layer,
  { bytes }: Size,
  { signal }: OperationContext,
): Promise<void> {
  if (!base.seesHoles) return;
  const end = layer.virtualSizeBytes;
  const pause = makePause(signal, () => interrupted(layer.name, "nothing was changed"));
  const needed = bytes - (await totalLength(intersect(layer.extents(0, end), base.dataExtents(0, end)), pause));
  const free = storage.freeBytes(base.name);
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
