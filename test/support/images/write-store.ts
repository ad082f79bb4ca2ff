/**
 * Owns dm-snapshot stores for tests: written by the writer that the commands use, over whatever the target held before.
 */

import type { ByteTarget } from "../../../src/lib/bytes/byte-source.ts";
import { type Extent, widen } from "../../../src/lib/bytes/extent.ts";
import { chunksNeeded } from "../../../src/lib/formats/dm-snapshot/layout.ts";
import { writeZeros, zeroTuples } from "../../../src/lib/formats/dm-snapshot/tuples.ts";
import { DmSnapshotWriter, requireGeometry } from "../../../src/lib/formats/dm-snapshot/writer.ts";

const PIECE_BYTES = 1 << 20;

export interface StoreContent {
  /** Of the image. */
  readonly sizeBytes: number;
  /** The parts to hold, ascending and disjoint. */
  readonly extents: () => Iterable<Extent>;
  /** Reads the image: these parts, and what is around them up to the limits of chunks. */
  readonly read: (target: Uint8Array, offset: number) => void;
}

/** The bytes of the smallest store that holds these extents. */
export function storeBytesFor(chunkSectors: number, extents: Iterable<Extent>, imageBytes: number): number {
  const geometry = requireGeometry(chunkSectors);
  let chunks = 0;
  for (const { length } of widen(extents, geometry.chunkBytes, imageBytes))
    chunks += Math.ceil(length / geometry.chunkBytes);
  return chunksNeeded(geometry, chunks) * geometry.chunkBytes;
}

/** Writes a whole store; what the target was is no store any more before the first chunk is written. */
export async function writeStore(
  target: ByteTarget,
  content: StoreContent,
  { chunkSectors }: { readonly chunkSectors: number },
): Promise<{ readonly exceptions: number; readonly storeBytes: number }> {
  const geometry = requireGeometry(chunkSectors);
  writeZeros(target, 0, geometry.chunkBytes);
  target.flush();
  writeZeros(target, 0, target.sizeBytes);
  const writer = new DmSnapshotWriter(target, geometry);
  for (const extent of widen(content.extents(), geometry.chunkBytes, content.sizeBytes)) {
    if (extent.length === 0) continue;
    for (const { offset, length, at } of writer.data(extent.offset, extent.length)) {
      for (let done = 0; done < length; done += PIECE_BYTES) {
        const piece = new Uint8Array(Math.min(PIECE_BYTES, length - done));
        content.read(piece, offset + done);
        target.write(piece, at + done);
      }
    }
  }
  writer.finish();
  return { exceptions: writer.exceptions, storeBytes: target.sizeBytes };
}

/**
 * Makes an empty store of all of `target`, as a kernel does with a zeroed device: header, and zeros in area 0. Other chunks stay
 * as they are. A target that is too short is made longer.
 */
export function createStore(target: ByteTarget, { chunkSectors }: { readonly chunkSectors: number }): void {
  const geometry = requireGeometry(chunkSectors);
  zeroTuples(target, geometry, 0, 1);
  new DmSnapshotWriter(target, geometry).finish();
}
