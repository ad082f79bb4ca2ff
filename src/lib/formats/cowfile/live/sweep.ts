/**
 * Owns taking out of the data area what no mark speaks of: what a server of ours had written when it died, and had not
 * told anybody to be done. Left there, a later content scan would bring it back, torn as it may be.
 */
import type { ByteTarget } from "../../../bytes/byte-source.ts";
import { complement, type Extent } from "../../../bytes/extent.ts";
import { isZero } from "../../../bytes/zero.ts";
import { BitmapReader } from "../bitmap-windows.ts";
import type { CowGeometry } from "../geometry.ts";
import { BLOCK_BYTES } from "../layout.ts";

const PIECE_BYTES = 1 << 20;

/** A target that can perhaps give space back. */
export type SweepTarget = ByteTarget & { readonly punchHole?: (offset: number, length: number) => boolean };

/** The parts of the file that are allocated to blocks without a mark, ascending. The bitmap on disk is complete. */
function* unmarkedParts(target: SweepTarget, geometry: CowGeometry): Generator<Extent> {
  const { dataOffsetBytes, virtualSizeBytes, rdoBlocks } = geometry;
  const end = Math.min(target.sizeBytes, dataOffsetBytes + virtualSizeBytes);
  const bitmap = new BitmapReader(target, geometry);
  for (const { offset, length } of target.dataExtents(dataOffsetBytes, end)) {
    const from = Math.floor((offset - dataOffsetBytes) / BLOCK_BYTES);
    const to = Math.min(rdoBlocks, Math.ceil((offset + length - dataOffsetBytes) / BLOCK_BYTES));
    const marked = bitmap.markedExtents(from, to);
    for (const part of complement(marked, from * BLOCK_BYTES, to * BLOCK_BYTES)) {
      const start = dataOffsetBytes + part.offset;
      yield { offset: start, length: Math.min(part.length, end - start) };
    }
  }
}

/** Makes holes of them, or zeros. Where holes can't be told from data, everything that has no mark has to be read. */
export function sweepUnmarked(target: SweepTarget, geometry: CowGeometry): void {
  const buffer = new Uint8Array(PIECE_BYTES);
  for (const { offset, length } of unmarkedParts(target, geometry)) {
    for (let at = offset; at < offset + length; at += PIECE_BYTES) {
      const piece = buffer.subarray(0, Math.min(PIECE_BYTES, offset + length - at));
      piece.fill(0, target.read(piece, at));
      // Most parts are the rest of a page that a block was written into.
      if (isZero(piece) || target.punchHole?.(at, piece.length)) continue;
      target.write(piece.fill(0), at);
    }
  }
}
