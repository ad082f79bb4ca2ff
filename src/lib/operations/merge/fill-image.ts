/**
 * Owns filling a new image with a base and a layer over it: a reflink of the base where the file system can, a sparse copy
 * otherwise, with what the layer holds over it.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { complement, type Extent, intersect, subtract } from "../../bytes/extent.ts";
import { interrupted, makePause, type OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { Copier } from "../../device/copy.ts";
import { cloneFile } from "../../device/sys/kernel-copy.ts";
import type { Layer } from "../../formats/format.ts";
import { dataPlaces, heldData } from "../../formats/layer-content.ts";
import { PIECE_BYTES } from "./write-blocks.ts";

const ZEROS = new Uint8Array(1 << 20);

export interface ImageJob {
  readonly base: BlockDevice;
  readonly layer: Layer;
  /** An empty file. */
  readonly target: BlockDevice;
  /** What it will be called, for messages. */
  readonly output: string;
  /** Bytes of the layer, for progress. */
  readonly total: number;
}

/** Writes all of it but for the flush. @throws CowError `io`, `no-space`, `interrupted` */
export async function fillImage(
  { base, layer, target, output, total }: ImageJob,
  context: OperationContext,
): Promise<void> {
  const stopped = () => interrupted(output, "it was not created, and the inputs are as they were");
  const pause = makePause(context.signal, stopped);
  let done = 0;
  const copier = new Copier();
  const copy = async (source: ByteSource, { offset, length }: Extent, shift: number, phase: string): Promise<void> => {
    if (length === 0) await pause();
    for (let at = offset; at < offset + length; at += PIECE_BYTES) {
      const piece = Math.min(PIECE_BYTES, offset + length - at);
      copier.copy({ source, sourceOffset: at + shift, target, targetOffset: at, length: piece });
      done += piece;
      context.onProgress?.({ phase, done, total: Math.max(done, total), unit: "bytes" });
      await pause();
    }
  };
  const cloned = base.fd !== undefined && target.fd !== undefined && cloneFile(base.fd, target.fd);
  const end = Math.max(base.sizeBytes, layer.virtualSizeBytes);
  target.resize(end);
  const held = (): Iterable<Extent> => layer.extents(0, layer.virtualSizeBytes);
  // What the layer hides of the base need not be copied first.
  if (!cloned)
    for (const extent of intersect(complement(held(), 0, end), base.dataExtents(0, base.sizeBytes)))
      await copy(base, extent, 0, "copying the base");
  for (const place of dataPlaces(layer.places(0, layer.virtualSizeBytes)))
    await copy(place.source, place, place.at - place.offset, "merging");
  // Parts that the layer holds as holes are zeros: in a fresh image they stay holes.
  if (cloned)
    for (const { offset, length } of subtract(held(), heldData(layer, 0, layer.virtualSizeBytes))) {
      writeZeros(target, offset, length);
      await pause();
    }
}

function writeZeros(target: BlockDevice, offset: number, length: number): void {
  if (length === 0 || target.punchHole(offset, length)) return;
  for (let at = 0; at < length; at += ZEROS.length)
    target.write(ZEROS.subarray(0, Math.min(ZEROS.length, length - at)), offset + at);
}
