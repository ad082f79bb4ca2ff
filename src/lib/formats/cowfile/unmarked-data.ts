/**
 * Owns the search for data in unallocated blocks: the driver's crash window, leftovers of an older file, or writes of a
 * killed server that were not answered. Reads neither holes nor fully allocated parts, and changes nothing.
 */
import { clearRuns } from "../../bytes/bitmap.ts";
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import type { Extent } from "../../bytes/extent.ts";
import { isZero } from "../../bytes/zero.ts";
import { interrupted, makeYielder } from "../../context.ts";
import { BitmapReader, type BitmapWindow, WINDOW_BLOCKS } from "./bitmap-windows.ts";
import type { CowGeometry } from "./geometry.ts";
import { reachableBlocks } from "./layer.ts";
import { BLOCK_BYTES } from "./layout.ts";

/** Divides a window of the bitmap, so that a piece needs one window. */
const PIECE_BLOCKS = 1024;

/** Without holes, a larger data area is not read to find data in unallocated blocks. */
const MAX_BLIND_BYTES = 256 << 20;

/** Would all of a large data area have to be read, holes and all, to find data in unallocated blocks? */
export function isTooMuchToLookAt(source: ByteSource, { dataOffsetBytes }: CowGeometry): boolean {
  return !source.seesHoles && source.sizeBytes - dataOffsetBytes > MAX_BLIND_BYTES;
}

/** The part of a bitmap with the bit of a block, at least up to the next multiple of 1024 blocks. */
export type MarksAt = (block: number) => Pick<BitmapWindow, "bytes" | "firstBlock">;

/** The bitmap as it is on disk. */
export function marksOnDisk(source: ByteSource, geometry: CowGeometry): MarksAt {
  const bitmap = new BitmapReader(source, geometry);
  return (block) => bitmap.window(Math.floor(block / WINDOW_BLOCKS));
}

export interface UnmarkedData {
  /** Unallocated blocks that hold something other than zeros. */
  readonly blocks: number;
  /** The first of them. */
  readonly firstBlock: number | undefined;
}

/**
 * Searches all of it, and stays responsive. Finds nothing if that would be too much to read.
 *
 * @throws CowError `io`, `interrupted`
 */
export async function findUnmarkedData(
  source: ByteSource,
  geometry: CowGeometry,
  signal: AbortSignal | undefined,
): Promise<UnmarkedData> {
  const yieldToEventLoop = makeYielder();
  let bytes = 0;
  let firstBlock: number | undefined;
  for (const piece of isTooMuchToLookAt(source, geometry) ? [] : unmarkedPieces(source, geometry)) {
    for (const { offset, length } of piece) {
      bytes += length;
      firstBlock ??= offset / BLOCK_BYTES;
    }
    if (signal?.aborted) throw interrupted(source.name, "nothing was changed");
    await yieldToEventLoop();
  }
  return { blocks: bytes / BLOCK_BYTES, firstBlock };
}

/**
 * Unallocated blocks that hold something other than zeros, as extents of the image, ascending; an array for each
 * piece of at most 1 MiB that was examined, so that callers can pause between them.
 *
 * @param range of blocks; `from` is a multiple of 1024
 * @throws CowError `io`
 */
export function* unmarkedPieces(
  source: ByteSource,
  geometry: CowGeometry,
  marksAt: MarksAt = marksOnDisk(source, geometry),
  range: { readonly from: number; readonly to: number } = { from: 0, to: geometry.rdoBlocks },
): Generator<readonly Extent[]> {
  let buffer: Uint8Array | undefined;
  for (const [from, to] of allocatedPieces(source, geometry, range)) {
    const { bytes, firstBlock: first } = marksAt(from);
    const runs = [...clearRuns(bytes, from - first, to - first)];
    const [begin, end] = [runs[0]?.[0], runs.at(-1)?.[1]];
    if (begin === undefined || end === undefined) {
      yield [];
      continue;
    }
    buffer ??= new Uint8Array(PIECE_BLOCKS * BLOCK_BYTES);
    const piece = buffer.subarray(0, (end - begin) * BLOCK_BYTES);
    readZeroFilled(source, piece, geometry.dataOffsetBytes + (first + begin) * BLOCK_BYTES);
    const found: Extent[] = [];
    for (const [runStart, runEnd] of runs) {
      for (let block = runStart; block < runEnd; block++) {
        const at = (block - begin) * BLOCK_BYTES;
        if (!isZero(piece, at, at + BLOCK_BYTES)) appendBlock(found, first + block);
      }
    }
    yield found;
  }
}

function appendBlock(extents: Extent[], block: number): void {
  const offset = block * BLOCK_BYTES;
  const last = extents.at(-1);
  if (last && last.offset + last.length === offset)
    extents[extents.length - 1] = { offset: last.offset, length: last.length + BLOCK_BYTES };
  else extents.push({ offset, length: BLOCK_BYTES });
}

/** The blocks with space in the file, from the first up to but without the second, ascending, each once. */
function* allocatedPieces(
  source: ByteSource,
  geometry: CowGeometry,
  range: { readonly from: number; readonly to: number },
): Generator<readonly [number, number]> {
  const { dataOffsetBytes } = geometry;
  const reachable = Math.min(range.to, reachableBlocks(source, geometry));
  const dataStart = dataOffsetBytes + range.from * BLOCK_BYTES;
  const dataEnd = Math.min(source.sizeBytes, dataOffsetBytes + reachable * BLOCK_BYTES);
  let next = range.from;
  for (const { offset, length } of dataStart < dataEnd ? source.dataExtents(dataStart, dataEnd) : []) {
    const end = Math.min(reachable, Math.ceil((offset + length - dataOffsetBytes) / BLOCK_BYTES));
    next = Math.max(next, Math.floor((offset - dataOffsetBytes) / BLOCK_BYTES));
    while (next < end) {
      const stop = Math.min(end, (Math.floor(next / PIECE_BLOCKS) + 1) * PIECE_BLOCKS);
      yield [next, stop];
      next = stop;
    }
  }
}
