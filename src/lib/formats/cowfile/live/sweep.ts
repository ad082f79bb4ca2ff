/**
 * Owns removing data in unallocated blocks that a dead server of ours had not answered. Otherwise a later content scan
 * would bring it back, perhaps torn. Older data in unallocated blocks is not touched; after a restart of the machine,
 * only data that was set aside is removed (set-aside.ts).
 */
import type { ByteTarget } from "../../../bytes/byte-source.ts";
import { coalesce, type Extent, listed, subtract } from "../../../bytes/extent.ts";
import type { CowGeometry } from "../geometry.ts";
import { BLOCK_BYTES } from "../layout.ts";
import { isTooMuchToLookAt, type MarksAt, marksOnDisk, unmarkedPieces } from "../unmarked-data.ts";
import { type BlockRun, MAX_KEPT_RUNS } from "./journal.ts";

/** A target that may free space. */
export type SweepTarget = ByteTarget & { readonly punchHole?: (offset: number, length: number) => boolean };

/** Runs of blocks as ascending extents of the image. */
export function extentsOfRuns(runs: readonly BlockRun[], { rdoBlocks }: CowGeometry): readonly Extent[] {
  const extents = runs
    .filter(({ first }) => first < rdoBlocks)
    .map(({ first, count }) => ({
      offset: first * BLOCK_BYTES,
      length: Math.min(count, rdoBlocks - first) * BLOCK_BYTES,
    }));
  return listed(coalesce(extents.sort((a, b) => a.offset - b.offset)));
}

/**
 * Unallocated blocks of a clean cowfile that hold data, for its journal to keep (at most MAX_KEPT_RUNS runs).
 *
 * @throws CowError `io`
 */
export function unmarkedRuns(target: SweepTarget, geometry: CowGeometry, marksAt: MarksAt): readonly BlockRun[] {
  if (isTooMuchToLookAt(target, geometry)) return [{ first: 0, count: geometry.rdoBlocks }];
  const runs: { first: number; count: number }[] = [];
  for (const piece of unmarkedPieces(target, geometry, marksAt)) {
    for (const { offset, length } of piece) {
      const [first, count] = [offset / BLOCK_BYTES, length / BLOCK_BYTES];
      const last = runs.at(-1);
      if (last && (last.first + last.count === first || runs.length === MAX_KEPT_RUNS))
        last.count = first + count - last.first;
      else runs.push({ first, count });
    }
  }
  return runs;
}

/** Makes holes (or zeros) in unallocated blocks, except those to be kept. @throws CowError `io` */
export function sweepUnmarked(
  target: SweepTarget,
  geometry: CowGeometry,
  kept: readonly BlockRun[],
  marksAt: MarksAt = marksOnDisk(target, geometry),
): void {
  const keep = extentsOfRuns(kept, geometry);
  for (const piece of unmarkedPieces(target, geometry, marksAt)) {
    // Most pieces hold nothing; only these are worth the walk along the list.
    for (const { offset, length } of piece.length === 0 ? [] : subtract(piece, keep)) {
      const start = geometry.dataOffsetBytes + offset;
      const size = Math.min(length, target.sizeBytes - start);
      if (size > 0 && !target.punchHole?.(start, size)) target.write(new Uint8Array(size), start);
    }
  }
}
