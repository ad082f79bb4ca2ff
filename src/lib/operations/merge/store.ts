/**
 * Owns merging a dm-snapshot store into its origin, and the order in which that is done, which is the kernel's: from the
 * last exception backwards,
 * (1) copy the chunks into the origin; flush the origin. The store still holds them: the view is the same.
 * (2) zero their tuples; flush the store. The origin shows through, which has the same there.
 * Killed anywhere, origin and store are an ordinary pair with the same view, and the same call resumes. Where the kernel
 * takes one run of chunks a step, this takes as many as make good use of two flushes. No tuple is ever zeroed whose chunk is
 * not in the origin: a store that has one is refused before anything is written.
 */
import { type ByteSource, type ByteTarget, readZeroFilled } from "../../bytes/byte-source.ts";
import type { Extent } from "../../bytes/extent.ts";
import { interrupted, makeYielder, type Progress } from "../../context.ts";
import { atByte, CowError, shellWord } from "../../errors.ts";
import { type OpenedStore, openStore } from "../../formats/dm-snapshot/layer.ts";
import { type StoreGeometry, TUPLE_BYTES } from "../../formats/dm-snapshot/layout.ts";
import { isDataChunk, readTuple } from "../../formats/dm-snapshot/scan.ts";
import { zeroTuples } from "../../formats/dm-snapshot/tuples.ts";

/** Data copied between two flushes: at most this many bytes, but at least one chunk. */
const STEP_BYTES = 64 << 20;
/** Exceptions merged between two flushes. */
const STEP_EXCEPTIONS = 1 << 16;
const COPY_BYTES = 1 << 20;

export interface MergeStoreHooks {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Exceptions merged between two flushes, if fewer than the default. */
  readonly stepExceptions?: number;
}

export interface MergedStore {
  readonly exceptions: number;
  /** Bytes of the origin that were written. */
  readonly bytes: number;
}

/**
 * Opens a store of which everything can be copied into this origin.
 *
 * @throws CowError as for reading; `wrong-base` if it holds chunks that the origin is too short for; `damaged` if there is
 *   a tuple behind the end of its list whose data is not in the origin
 */
export function openForMerge(store: ByteSource, origin: ByteSource): OpenedStore {
  const opened = openStore(store, origin, false);
  const { geometry, verdicts } = opened;
  const beyond = verdicts.counts["old-beyond"];
  if (beyond > 0) {
    const { olds } = verdicts.scan;
    let highest = 0;
    for (let i = 0; i < olds.length; i++) highest = Math.max(highest, olds.at(i));
    const neededBytes = (highest + 1) * geometry.chunkBytes;
    throw new CowError(
      "wrong-base",
      `holds ${beyond} ${beyond === 1 ? "chunk" : "chunks"} beyond the end of ${origin.name}, which has ${origin.sizeBytes} bytes: merging would lose them`,
      {
        file: store.name,
        details: { chunks_beyond: beyond, needed_bytes: neededBytes, base_bytes: origin.sizeBytes },
        hints: [
          `merge it into the base that it was made for, of up to ${neededBytes} bytes; \`cowtool repair --drop-lost --rdofile ${shellWord(origin.name)} ${shellWord(store.name)}\` gives these chunks up`,
        ],
      },
    );
  }
  refuseUncopied(store, origin, opened);
  return opened;
}

/** Tuples that a killed merge left after the end of the list are in the origin. A merge removes no others. */
function refuseUncopied(store: ByteSource, origin: ByteSource, { geometry, verdicts }: OpenedStore): void {
  const { stale } = verdicts.scan;
  if (!stale) return;
  const { chunkBytes } = geometry;
  for (const index of storedPlaces(store, geometry, stale)) {
    const tuple = readTuple(store, geometry, index);
    const [old, next] = [Number(tuple.old_chunk), Number(tuple.new_chunk)];
    if (next === 0 || !isDataChunk(verdicts.scan, next) || isCopied(store, origin, chunkBytes, old, next)) continue;
    throw new CowError(
      "damaged",
      `has a tuple after the end of its list, for chunk ${old} in chunk ${next}, and what it holds is not in ${origin.name}: merging would lose it`,
      {
        file: store.name,
        details: { problem: "stale-tuples", offset: stale.offset, length: stale.length },
        hints: [`\`cowtool repair ${shellWord(store.name)}\` gives up what is after ${atByte(stale.offset)}`],
      },
    );
  }
}

/** The places of the list in a part of its last area, holes left out. */
function* storedPlaces(store: ByteSource, { chunkBytes, perArea }: StoreGeometry, stale: Extent): Generator<number> {
  const end = stale.offset + stale.length;
  const firstOfArea = Math.floor((end / chunkBytes - 2) / (perArea + 1)) * perArea;
  const areaOffset = end - chunkBytes;
  for (const { offset, length } of store.dataExtents(stale.offset, end)) {
    const to = Math.ceil((offset + length - areaOffset) / TUPLE_BYTES);
    for (let slot = Math.floor((offset - areaOffset) / TUPLE_BYTES); slot < to; slot++) yield firstOfArea + slot;
  }
}

function isCopied(store: ByteSource, origin: ByteSource, chunkBytes: number, old: number, next: number): boolean {
  const length = Math.min(chunkBytes, origin.sizeBytes - old * chunkBytes);
  if (length <= 0) return false;
  for (let at = 0; at < length; at += COPY_BYTES) {
    const [ours, theirs] = [0, 0].map(() => Buffer.alloc(Math.min(COPY_BYTES, length - at)));
    if (!ours || !theirs) return false;
    readZeroFilled(store, ours, next * chunkBytes + at);
    readZeroFilled(origin, theirs, old * chunkBytes + at);
    if (!ours.equals(theirs)) return false;
  }
  return true;
}

/**
 * Merges everything that a store holds into its origin; the store is empty afterwards, and loads as such.
 *
 * @throws CowError as openForMerge, before anything is written; `io`, `no-space`; `interrupted`, after which the same call
 *   goes on
 */
export async function mergeStore(store: ByteTarget, origin: ByteTarget, hooks: MergeStoreHooks): Promise<MergedStore> {
  const opened = openForMerge(store, origin);
  const { geometry } = opened;
  const { scan } = opened.verdicts;
  const total = scan.olds.length;
  if (scan.stale) {
    // Left by a killed merge or writer: it must not become valid again.
    zeroTuples(store, geometry, total, scan.areas);
    store.flush();
  }
  // Copies of a dead process may be in the page cache only.
  if (total > 0) origin.flush();
  const yieldToEventLoop = makeYielder();
  let left = total;
  let bytes = 0;
  while (left > 0) {
    const first = Math.max(0, left - stepLength(geometry, hooks));
    for (const copied of copyBackwards(store, origin, opened, first, left)) {
      bytes += copied;
      hooks.onProgress?.({
        phase: "merging",
        done: bytes,
        total: Math.max(bytes, total * geometry.chunkBytes),
        unit: "bytes",
      });
      await yieldToEventLoop();
    }
    origin.flush();
    zeroTuples(store, geometry, first, Math.floor((left - 1) / geometry.perArea) + 1);
    store.flush();
    left = first;
    if (hooks.signal?.aborted && left > 0) {
      throw interrupted(
        store.name,
        `${total - left} of ${total} chunks are merged, and the same command merges the rest`,
      );
    }
  }
  return { exceptions: total, bytes };
}

function stepLength({ chunkBytes }: StoreGeometry, { stepExceptions = STEP_EXCEPTIONS }: MergeStoreHooks): number {
  return Math.max(1, Math.min(stepExceptions, Math.floor(STEP_BYTES / chunkBytes)));
}

/** Copies exceptions `[first, end)` of the list, the last one first, runs in one piece. Yields the bytes of each piece. */
function* copyBackwards(
  store: ByteSource,
  origin: ByteTarget,
  { geometry, verdicts }: OpenedStore,
  first: number,
  end: number,
): Generator<number> {
  const { olds, news } = verdicts.scan;
  const { chunkBytes } = geometry;
  const buffer = new Uint8Array(COPY_BYTES);
  for (let at = end - 1; at >= first; ) {
    let count = 1;
    while (
      at - count >= first &&
      olds.at(at - count) === olds.at(at) - count &&
      news.at(at - count) === news.at(at) - count
    )
      count++;
    at -= count;
    // The origin's last chunk may be partial; the rest of the chunk in the store never shows.
    const from = news.at(at + 1) * chunkBytes;
    const to = olds.at(at + 1) * chunkBytes;
    const length = Math.min(count * chunkBytes, origin.sizeBytes - to);
    for (let done = 0; done < length; done += buffer.length) {
      const piece = buffer.subarray(0, Math.min(buffer.length, length - done));
      readZeroFilled(store, piece, from + done);
      origin.write(piece, to + done);
      yield piece.length;
    }
  }
}
