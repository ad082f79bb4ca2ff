/**
 * Owns the table of everything that a conversion may lose; the image itself is never lost.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import type { Layer } from "../../formats/format.ts";
import { isQcow2, readHeader } from "../../formats/qcow2/header.ts";
import type { ConvertFormat, Loss } from "./request.ts";

/** By id: what it means, for the manual. */
export const LOSSES = {
  "layers-joined":
    "Which of several layers had allocated a block is no longer known: they became one layer, or a whole image.",
  "extents-rounded":
    "The output's units are larger: it also holds parts that the layers have not allocated, copied from the backing.",
  "base-identity": "The output does not record the identity of its base (size, fingerprint).",
  "size-padded": "The image became longer, by zeros, up to a whole sector.",
  "tail-dropped": "The image lost its last bytes, which are less than a block; they were the same as in the base.",
  "store-layout": "The order in which a store was written, its free space and its stale chunks are not kept.",
  "log-layout": "The logs into which blocks were written, and their order, are not kept.",
  "stale-data": "Stale data in unallocated parts of a layer's data file is not kept.",
  "snapshots-dropped": "Snapshots inside a qcow2 file are not converted: only its current state is.",
  "bitmaps-dropped": "Bitmaps inside a qcow2 file are not converted.",
} as const;

export type LossId = keyof typeof LOSSES;

export function loss(id: LossId, message: string): Loss {
  return { id, message };
}

const HAS_IDENTITY: readonly ConvertFormat[] = ["cowfile"];

/** What the formats of the input express and the output's does not. */
export function* formatLosses(layers: readonly Layer[], to: ConvertFormat, isOver: boolean): Generator<Loss> {
  const formats = new Set(layers.map(({ formatId }) => formatId));
  if (formats.has("cowfile") && isOver && !HAS_IDENTITY.includes(to))
    yield loss("base-identity", `a ${to} layer does not record size and fingerprint of the base`);
  if (formats.has("dm-snapshot"))
    yield loss("store-layout", "the order in which the store was written, and its free space, are not kept");
  if (formats.has("snap")) yield loss("log-layout", "into which logs blocks were written, and when, is not kept");
  if (formats.has("dm-cow")) yield loss("stale-data", "stale data in unallocated parts of the layers is not kept");
}

/** The other contents of a qcow2 file. */
export function* qcow2Losses(file: BlockDevice): Generator<Loss> {
  const head = new Uint8Array(8);
  if (file.read(head, 0) < head.length || !isQcow2(head)) return;
  const { snapshotCount, bitmaps } = readHeader(file);
  if (snapshotCount > 0)
    yield loss("snapshots-dropped", `${file.name} has ${snapshotCount} snapshots inside, of which none is converted`);
  if (bitmaps && bitmaps.count > 0)
    yield loss("bitmaps-dropped", `${file.name} has ${bitmaps.count} bitmaps inside, of which none is converted`);
}
