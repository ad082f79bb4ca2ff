/**
 * Owns the facts about a merge before it writes: are all blocks merged already, and will the fingerprint change? Both
 * are answered by content, for layers of every format.
 */
import { readZeroFilled } from "../../bytes/byte-source.ts";
import { interrupted, makePause, type OperationContext, type Pause } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { takeFingerprint } from "../../formats/cowfile/fingerprint.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import type { Layer } from "../../formats/format.ts";
import { totalLength } from "../../formats/walk-extents.ts";
import { Overlay } from "../../stack/overlay.ts";
import { lengthened } from "../whole-image.ts";

export const COMPARE_BYTES = 1 << 20;

function pauseFor(layer: Layer, { signal }: OperationContext): Pause {
  return makePause(signal, () => interrupted(layer.name, "nothing was changed"));
}

/** A layer's allocated units and bytes. */
export interface Size {
  readonly units: number;
  readonly bytes: number;
}

/** @throws CowError `interrupted` */
export async function sizeOf(layer: Layer, context: OperationContext): Promise<Size> {
  const bytes = await totalLength(layer.extents(0, layer.virtualSizeBytes), pauseFor(layer, context));
  return { units: Math.ceil(bytes / layer.granularityBytes), bytes };
}

/**
 * Are all of the layer's blocks in the base already? Then merging is no change, whatever base it is.
 * @throws CowError `interrupted`
 */
export async function holdsAll(layer: Layer, base: BlockDevice, context: OperationContext): Promise<boolean> {
  const pause = pauseFor(layer, context);
  for (const { ours, theirs } of comparedPieces(layer, base)) {
    if (!ours.equals(theirs)) return false;
    await pause();
  }
  return true;
}

/** Is any of the layer's blocks in the base already? @throws CowError `interrupted` */
export async function holdsAny(layer: Layer, base: BlockDevice, context: OperationContext): Promise<boolean> {
  const pause = pauseFor(layer, context);
  for (const { ours, theirs } of comparedPieces(layer, base)) {
    for (let at = 0; at < ours.length; at += BLOCK_BYTES)
      if (ours.subarray(at, at + BLOCK_BYTES).equals(theirs.subarray(at, at + BLOCK_BYTES))) return true;
    await pause();
  }
  return false;
}

interface ComparedPiece {
  /** In the image. */
  readonly offset: number;
  readonly ours: Buffer;
  readonly theirs: Buffer;
}

/** The layer's content, and the base's at the same place; valid until the next piece. Pauses are empty pieces. */
export function* comparedPieces(layer: Layer, base: BlockDevice): Generator<ComparedPiece> {
  const [ours, theirs] = [Buffer.alloc(COMPARE_BYTES), Buffer.alloc(COMPARE_BYTES)];
  for (const { offset, length, source, at } of layer.places(0, layer.virtualSizeBytes)) {
    if (length === 0) yield { offset, ours: ours.subarray(0, 0), theirs: theirs.subarray(0, 0) };
    for (let done = 0; done < length; done += COMPARE_BYTES) {
      const size = Math.min(COMPARE_BYTES, length - done);
      const piece = { offset: offset + done, ours: ours.subarray(0, size), theirs: theirs.subarray(0, size) };
      readZeroFilled(source, piece.ours, at + done);
      readZeroFilled(base, piece.theirs, offset + done);
      yield piece;
    }
  }
}

/** Will the merge change the base's fingerprint? Not asked for an empty layer. */
export async function changesFingerprint(base: BlockDevice, layer: Layer, context: OperationContext): Promise<boolean> {
  const blocks = Math.floor(base.sizeBytes / BLOCK_BYTES);
  // The end of a longer base stays unchanged, although it does not show through the layer.
  const written = lengthened(layer, base.sizeBytes);
  const before = await takeFingerprint(base, blocks, { signal: context.signal });
  const after = await takeFingerprint(new Overlay(base.name, base, [written]), blocks, { signal: context.signal });
  return before.value !== after.value;
}
