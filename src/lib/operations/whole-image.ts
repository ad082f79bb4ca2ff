/**
 * Owns writing the whole image of a stack as a raw file, for `merge -o`, `invert` and `convert --to raw`. Where the
 * file system can share blocks, the file begins as a clone of the base.
 */
import type { Extent } from "../bytes/extent.ts";
import type { OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import type { Layer } from "../formats/format.ts";
import { LayeredImage } from "../formats/layered-image.ts";
import { RawWriter } from "../formats/raw/writer.ts";
import { cloneBase, type ImageJob, writeImage } from "../output/write-image.ts";
import type { Stack } from "../stack/open.ts";

/** The stack's image, with the end of the top layer's backing if that is longer. */
export function wholeView({ base, layers }: Pick<Stack, "base" | "layers">, belowBytes: number): LayeredImage {
  const top = layers.at(-1);
  return new LayeredImage(base.name, base, top ? [...layers.slice(0, -1), lengthened(top, belowBytes)] : layers);
}

/** Is its size independent of its backing's? Of other layers only the last part of a unit can be missing. */
export function hasOwnSize({ base }: Layer): boolean {
  return base.blocks === undefined || base.resizedBlocks !== undefined;
}

/** A layer that is at least as long as its backing, with nothing beyond its own end. */
export function lengthened(layer: Layer, sizeBytes: number): Layer {
  const end = layer.virtualSizeBytes;
  if (end >= sizeBytes) return layer;
  return {
    formatId: layer.formatId,
    name: layer.name,
    granularityBytes: layer.granularityBytes,
    base: layer.base,
    virtualSizeBytes: sizeBytes,
    extents: (from, to) => layer.extents(from, Math.min(to, end)),
    places: (from, to) => layer.places(from, Math.min(to, end)),
  };
}

/** The parts to write to a raw file: everything that shows, or for a clone of the base only the layers' parts. */
export function heldOfRaw(view: LayeredImage, isClone: boolean, from: number): Iterable<Extent> | undefined {
  return isClone ? view.allocated(from, view.sizeBytes) : undefined;
}

/**
 * Writes a raw image of a view into an empty file, except for the flush.
 * @throws CowError `io`, `no-space`, `interrupted`
 */
export async function writeWhole(
  job: Pick<ImageJob, "target" | "phase" | "stopped"> & { readonly view: LayeredImage; readonly base: BlockDevice },
  context: OperationContext,
): Promise<void> {
  const { view, base, target } = job;
  const { sizeBytes } = view;
  const isClone = cloneBase(base, target);
  const writer = new RawWriter(target, sizeBytes, isClone);
  await writeImage({ ...job, sizeBytes, held: heldOfRaw(view, isClone, 0), writer }, context);
}
