/**
 * Owns what is known of a merge before it writes anything: does the base hold everything of the layer already, and will its
 * fingerprint be another one? Both are asked of the content, so that they hold for layers of every format.
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

/** How much a layer holds, in its own units and in bytes. */
export interface Size {
  readonly units: number;
  readonly bytes: number;
}

/** @throws CowError `interrupted` */
export async function sizeOf(layer: Layer, context: OperationContext): Promise<Size> {
  const bytes = await totalLength(layer.extents(0, layer.virtualSizeBytes), pauseFor(layer, context));
  return { units: Math.ceil(bytes / layer.granularityBytes), bytes };
}

/** Does the base hold everything of the layer already? Then merging is no change, whatever base it is. @throws CowError `interrupted` */
export async function holdsAll(layer: Layer, base: BlockDevice, context: OperationContext): Promise<boolean> {
  const pause = pauseFor(layer, context);
  for (const { ours, theirs } of comparedPieces(layer, base)) {
    if (!ours.equals(theirs)) return false;
    await pause();
  }
  return true;
}

/** Does the base hold any block of the layer already? @throws CowError `interrupted` */
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

/** What the layer holds, and what the base has there; valid until the next piece. Pauses are empty pieces. */
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

/** Will the base have another fingerprint once the layer is merged into it? Not asked where the layer holds nothing. */
export async function changesFingerprint(base: BlockDevice, layer: Layer, context: OperationContext): Promise<boolean> {
  const blocks = Math.floor(base.sizeBytes / BLOCK_BYTES);
  // The end of a longer base stays as it is, though nothing of it shows through the layer.
  const written = lengthened(layer, base.sizeBytes);
  const before = await takeFingerprint(base, blocks, { signal: context.signal });
  const after = await takeFingerprint(new Overlay(base.name, base, [written]), blocks, { signal: context.signal });
  return before.value !== after.value;
}
