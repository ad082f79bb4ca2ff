/**
 * Owns merging a dm-snapshot store into its origin, and the order in which that is done, which is the kernel's: from the
 * last exception backwards,
 * (1) copy the chunks into the origin; flush the origin. The store still holds them: the view is the same.
 * (2) zero their tuples; flush the store. The origin shows through, which has the same there.
 * Killed anywhere, origin and store are an ordinary pair with the same view, and the same call goes on. Where the kernel
 * takes one run of chunks a step, this takes as many as make good use of two flushes.
 */
import { type ByteSource, type ByteTarget, readZeroFilled } from "../../bytes/byte-source.ts";
import { interrupted, makeBreath, type Progress } from "../../context.ts";
import { type OpenedStore, openStore } from "../../formats/dm-snapshot/layer.ts";
import type { StoreGeometry } from "../../formats/dm-snapshot/layout.ts";
import { zeroTuples } from "../../formats/dm-snapshot/tuples.ts";

/** Data copied between two flushes: at most so many bytes, but at least one chunk. */
const STEP_BYTES = 64 << 20;
/** Exceptions merged between two flushes. */
const STEP_EXCEPTIONS = 1 << 16;
const COPY_BYTES = 1 << 20;

export interface MergeStoreHooks {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Exceptions merged between two flushes, if fewer are wanted than make good use of them. */
  readonly stepExceptions?: number;
}

export interface MergedStore {
  readonly exceptions: number;
  /** Bytes of the origin that were written. */
  readonly bytes: number;
}

/**
 * Merges everything that a store holds into its origin; the store is empty afterwards, and loads as such.
 *
 * @throws CowError `damaged`, `truncated`, … as for reading, before anything is written; `io`, `no-space`; `interrupted`,
 * after which the same call goes on
 */
export async function mergeStore(store: ByteTarget, origin: ByteTarget, hooks: MergeStoreHooks): Promise<MergedStore> {
  const opened = openStore(store, origin, false);
  const { geometry } = opened;
  const { scan } = opened.verdicts;
  const total = scan.olds.length;
  if (scan.stale) {
    // What a merge or a writer left that was killed: it must not come back to life.
    zeroTuples(store, geometry, total, scan.areas);
    store.flush();
  }
  // What a dead process had copied may be in the page cache only.
  if (total > 0) origin.flush();
  const breath = makeBreath();
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
      await breath();
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
    // A chunk that the origin does not have is only forgotten; its last one may be cut short.
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
