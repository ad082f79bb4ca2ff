/**
 * Owns the choice of samples of a base that is too large to read: pieces spread evenly over its data, in an order whose
 * every beginning is spread evenly, too, because time may run out before the end.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { type Extent, listed, widen } from "../../bytes/extent.ts";
import type { Pause } from "../../context.ts";
import { MIN_CHUNK_BYTES } from "../../notes/base-record.ts";

/** How much may be read. */
export interface Budget {
  readonly bytes: number;
  readonly ms: number;
}

/** A budget that users do not notice: a fifth of a second from memory, and no more than this time on slow media. */
export const QUICK: Budget = { bytes: 256 << 20, ms: 2000 };
export const UNLIMITED: Budget = { bytes: Number.POSITIVE_INFINITY, ms: Number.POSITIVE_INFINITY };

/** The data extents are asked for one at a time. */
const MAX_EXTENTS = 1 << 16;
/** Smaller bases have smaller chunks; a record has at most this many. */
const USUAL_CHUNKS = 4096;
const USUAL_CHUNK_BYTES = 64 << 10;
/** A full record has this many chunks, and larger ones if that isn't enough. */
const MAX_CHUNKS = 1 << 16;
const CHUNKS_PER_SAMPLE = 4;

export function totalBytes(extents: Iterable<Extent>): number {
  let total = 0;
  for (const { length } of extents) total += length;
  return total;
}

/** The data of `[0, end)`. In a base of very many pieces the rest counts as data. */
export async function dataOf(base: ByteSource, end: number, pause: Pause): Promise<Extent[]> {
  const extents: Extent[] = [];
  for (const extent of base.dataExtents(0, end)) {
    const turn = pause();
    if (turn) await turn;
    if (extent.length === 0) continue;
    if (extents.length === MAX_EXTENTS) {
      extents.push({ offset: extent.offset, length: end - extent.offset });
      break;
    }
    extents.push(extent);
  }
  return extents;
}

/** The unit in which changes are found: small for a small base, so that a record stays small. */
export function chooseChunkBytes(data: readonly Extent[], end: number, budget: Budget): number {
  for (let chunkBytes = MIN_CHUNK_BYTES; ; chunkBytes *= 2) {
    const bytes = totalBytes(widen(data, chunkBytes, end));
    const most = chunkBytes < USUAL_CHUNK_BYTES ? USUAL_CHUNKS : MAX_CHUNKS;
    if (Math.min(bytes, budget.bytes) <= most * chunkBytes) return chunkBytes;
  }
}

/**
 * The parts of runs of whole chunks to read: all in their order, or if that is more than the budget, samples of a few
 * chunks each, including the first and the last.
 */
export function spread(runs: readonly Extent[], chunkBytes: number, budgetBytes: number): readonly Extent[] {
  const total = totalBytes(runs);
  if (total <= budgetBytes) return runs;
  const perSample = Math.min(CHUNKS_PER_SAMPLE, Math.max(1, Math.floor(budgetBytes / (8 * chunkBytes))));
  const sampleBytes = perSample * chunkBytes;
  const count = Math.floor(budgetBytes / sampleBytes);
  const samples: Extent[] = [];
  let before = 0;
  let next = 0;
  for (const { offset, length } of runs) {
    for (; next < count; next++) {
      const start = samplePosition(next, count, total, sampleBytes, chunkBytes) - before;
      const [from, to] = [Math.max(0, start), Math.min(length, start + sampleBytes)];
      if (to > from) samples.push({ offset: offset + from, length: to - from });
      // The rest of it, if any, is taken from the next run.
      if (start + sampleBytes > length) break;
    }
    before += length;
  }
  return evenFromTheStart(samples);
}

/** The position of a sample in the concatenated data. */
function samplePosition(index: number, count: number, total: number, sampleBytes: number, chunkBytes: number): number {
  if (count === 1) return 0;
  const chunks = Math.floor((index * Math.ceil((total - sampleBytes) / chunkBytes)) / (count - 1));
  return chunks * chunkBytes;
}

/** The order of numbers with their bits reversed: 0, 4, 2, 6, 1, 5, 3, 7. */
function evenFromTheStart<Item>(items: readonly Item[]): Item[] {
  const bits = Math.ceil(Math.log2(Math.max(2, items.length)));
  const ordered: Item[] = [];
  for (let i = 0; i < 2 ** bits; i++) {
    let reversed = 0;
    for (let bit = 0; bit < bits; bit++) if (i & (1 << bit)) reversed |= 1 << (bits - 1 - bit);
    const item = items[reversed];
    if (item !== undefined) ordered.push(item);
  }
  return ordered;
}

/** The parts of a remote file to compare after its server was away: all of its data, if that is little. */
const REMEMBERED_BYTES = 16 << 20;
/** Also parts that may be holes, because there may be data the next time. */
const REMEMBERED_ANYWHERE_BYTES = 256 << 10;

/** Parts of a file that distinguish it from another one, spread over it and its data. */
export async function tellingParts(file: ByteSource, pause: Pause): Promise<readonly Extent[]> {
  const end = file.sizeBytes;
  const data = listed(widen(await dataOf(file, end, pause), MIN_CHUNK_BYTES, end));
  const all = [{ offset: 0, length: end }];
  return [
    ...spread(all, MIN_CHUNK_BYTES, REMEMBERED_ANYWHERE_BYTES),
    ...spread(data, MIN_CHUNK_BYTES, REMEMBERED_BYTES),
  ];
}
