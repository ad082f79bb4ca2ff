/**
 * Owns reducing extents to cells, each a range of the image: any size of image in one pass, memory by the cell.
 */
import type { Extent } from "../../lib/bytes/extent.ts";

const BLOCK_BYTES = 1024;

export interface MapCells {
  /** Bytes of the image in a cell; the last one may have fewer. */
  readonly cellBytes: number;
  /** Bytes of each cell that lie in the extents. */
  readonly covered: Float64Array;
}

/** Bytes of the image in each of at most `cellCount` cells: whole blocks. */
function cellSize(sizeBytes: number, cellCount: number): number {
  const blocks = Math.max(1, Math.ceil(sizeBytes / BLOCK_BYTES));
  return Math.ceil(blocks / cellCount) * BLOCK_BYTES;
}

/** Extents as they come: from memory, or while a file is walked through. */
export type Extents = Iterable<Extent> | AsyncIterable<Extent>;

export async function coverCells(extents: Extents, sizeBytes: number, cellCount: number): Promise<MapCells> {
  const cellBytes = cellSize(sizeBytes, cellCount);
  const covered = new Float64Array(Math.ceil(sizeBytes / cellBytes));
  for await (const { offset, length } of extents) {
    for (let at = offset; at < offset + length; ) {
      const cell = Math.floor(at / cellBytes);
      const stop = Math.min(offset + length, (cell + 1) * cellBytes);
      covered[cell] = (covered[cell] ?? 0) + stop - at;
      at = stop;
    }
  }
  return { cellBytes, covered };
}
