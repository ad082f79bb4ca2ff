/**
 * Owns the question whether the data area holds anything that the bitmap does not mention: the driver's crash window, or
 * leftovers of an older file. Reads nothing that is a hole or marked throughout, and changes nothing.
 */
import { clearRuns } from "../../bytes/bitmap.ts";
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import { isZero } from "../../bytes/zero.ts";
import { interrupted, makeBreath } from "../../context.ts";
import { BitmapReader, WINDOW_BLOCKS } from "./bitmap-windows.ts";
import type { CowGeometry } from "./geometry.ts";
import { reachableBlocks } from "./layer.ts";
import { BLOCK_BYTES } from "./layout.ts";

/** Divides a window of the bitmap, so that a piece needs one window. */
const PIECE_BLOCKS = 1024;

export interface UnmarkedData {
  /** Blocks that are not marked and hold something other than zeros. */
  readonly blocks: number;
  /** The first of them. */
  readonly firstBlock: number | undefined;
}

/** Looks at all of it in one go. @throws CowError `io` */
export function unmarkedData(source: ByteSource, geometry: CowGeometry): UnmarkedData {
  const steps = look(source, geometry);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** The same for callers that have to stay responsive. @throws CowError `io`, `interrupted` */
export async function findUnmarkedData(
  source: ByteSource,
  geometry: CowGeometry,
  signal: AbortSignal | undefined,
): Promise<UnmarkedData> {
  const steps = look(source, geometry);
  const breath = makeBreath();
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    if (signal?.aborted) throw interrupted(source.name, "nothing was changed");
    await breath();
  }
}

/** A step is a piece of at most 1 MiB. */
function* look(source: ByteSource, geometry: CowGeometry): Generator<void, UnmarkedData> {
  const { dataOffsetBytes } = geometry;
  const bitmap = new BitmapReader(source, geometry);
  const buffer = new Uint8Array(PIECE_BLOCKS * BLOCK_BYTES);
  let blocks = 0;
  let firstBlock: number | undefined;
  for (const [from, to] of allocatedPieces(source, geometry)) {
    const { bytes, firstBlock: first } = bitmap.window(Math.floor(from / WINDOW_BLOCKS));
    const runs = [...clearRuns(bytes, from - first, to - first)];
    const [begin, end] = [runs[0]?.[0], runs.at(-1)?.[1]];
    if (begin !== undefined && end !== undefined) {
      const piece = buffer.subarray(0, (end - begin) * BLOCK_BYTES);
      readZeroFilled(source, piece, dataOffsetBytes + (first + begin) * BLOCK_BYTES);
      for (const [runStart, runEnd] of runs) {
        for (let block = runStart; block < runEnd; block++) {
          const at = (block - begin) * BLOCK_BYTES;
          if (isZero(piece, at, at + BLOCK_BYTES)) continue;
          blocks++;
          firstBlock ??= first + block;
        }
      }
    }
    yield;
  }
  return { blocks, firstBlock };
}

/** The blocks that the storage below has allocated, from the first up to but without the second, ascending, each once. */
function* allocatedPieces(source: ByteSource, geometry: CowGeometry): Generator<readonly [number, number]> {
  const { dataOffsetBytes } = geometry;
  const reachable = reachableBlocks(source, geometry);
  const dataEnd = Math.min(source.sizeBytes, dataOffsetBytes + reachable * BLOCK_BYTES);
  let next = 0;
  for (const { offset, length } of source.dataExtents(dataOffsetBytes, dataEnd)) {
    const end = Math.min(reachable, Math.ceil((offset + length - dataOffsetBytes) / BLOCK_BYTES));
    next = Math.max(next, Math.floor((offset - dataOffsetBytes) / BLOCK_BYTES));
    while (next < end) {
      const stop = Math.min(end, (Math.floor(next / PIECE_BLOCKS) + 1) * PIECE_BLOCKS);
      yield [next, stop];
      next = stop;
    }
  }
}
