/**
 * Owns the table of everything that a conversion may lose; the image itself is never lost.
 */

/** A property of the input that the output cannot express. */
export interface Loss {
  /** Stable; see LOSSES. */
  readonly id: string;
  readonly message: string;
}

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

/** The id of something that a conversion cannot carry over. */
export type LossId = keyof typeof LOSSES;

export function loss(id: LossId, message: string): Loss {
  return { id, message };
}
