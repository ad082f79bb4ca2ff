/**
 * Owns replaying a flush log after a power cut: its data goes to its place, its blocks are allocated.
 */
import type { ByteTarget } from "../../../bytes/byte-source.ts";
import type { CowGeometry } from "../geometry.ts";
import { BLOCK_BYTES } from "../layout.ts";
import type { FoundLog } from "./flush-log.ts";
import type { BlockRun } from "./journal.ts";

/** The blocks of a log, including records that the stamp says are done: their bits may not be on disk yet. */
export function logRuns({ records }: FoundLog, { rdoBlocks }: CowGeometry): BlockRun[] {
  const runs: BlockRun[] = [];
  for (const { extents } of records) {
    for (const { offset, length } of extents) {
      const first = Math.floor(offset / BLOCK_BYTES);
      const end = Math.min(rdoBlocks, Math.ceil((offset + length) / BLOCK_BYTES));
      if (end > first) runs.push({ first, count: end - first });
    }
  }
  return runs;
}

/**
 * Writes the data of every record after number `done` to its place, in the original order. May be repeated until
 * something else is written.
 */
export function replayLog(target: ByteTarget, { records }: FoundLog, done: number, geometry: CowGeometry): void {
  for (const { number, extents, data } of records) {
    if (number <= done) continue;
    let at = 0;
    for (const { offset, length } of extents) {
      const size = Math.min(length, geometry.virtualSizeBytes - offset);
      if (size > 0) target.write(data.subarray(at, at + size), geometry.dataOffsetBytes + offset);
      at += length;
    }
  }
}
