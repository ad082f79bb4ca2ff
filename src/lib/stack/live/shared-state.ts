/**
 * Owns the memory that all threads serving one writable image share: the bitmap, which parts of it are not on disk yet,
 * the locks, and a few counters. Plain SharedArrayBuffers, so that it can be posted to a worker.
 */

import { CowError } from "../../errors.ts";
import { MAX_RECORD_DATA_BYTES, MAX_RECORD_EXTENTS } from "../../formats/cowfile/live/flush-log.ts";

/** Blocks whose marks one lock guards: 32 bytes of bitmap, so that no two regions share a word of it. */
export const REGION_BLOCKS = 256;
/** Bytes of the bitmap that are written together: a page of the file. */
export const MAP_PAGE_BYTES = 4096;
/** Locks; regions that are a multiple of this apart share one. */
export const LOCKS = 8192;

/** What the flush log remembers at most: places and data. */
const REMEMBERED_BYTES = MAX_RECORD_EXTENTS * 2 * Float64Array.BYTES_PER_ELEMENT + MAX_RECORD_DATA_BYTES;

/** Places in `control`. */
export const Control = {
  /** 1 once the head on disk says dirty, durably. */
  HEAD_DIRTY: 0,
  /** Mutex: flushing, marking dirty. */
  ORDER: 1,
  /** Mutex: making the journal longer. */
  GROW: 2,
  /** See Failure. */
  FAILED: 3,
  /** See Unflushed. */
  UNFLUSHED: 4,
  FLUSHES_STARTED: 5,
  FLUSHES_DONE: 6,
  /** Counts checkpoints; its lowest bit says which half of the journal is in use. */
  EPOCH: 7,
  /** Per half: threads that are writing entries, the next free slot, the slots that have room on disk. */
  WRITERS: 8,
  NEXT_SLOT: 10,
  SLOTS: 12,
  /** A lower bound of the file's length, in MiB. */
  SIZE_MIB: 14,
  /** 1 where holes can be punched. */
  CAN_PUNCH: 15,
  /** 1 after a checkpoint that failed, until one succeeds. */
  UNFINISHED: 16,
  /** 1 once a write has failed: part of its data may lie in blocks that are not marked. */
  RESIDUE: 17,
  /** Journal entries that threads are going to write. */
  PROMISED: 18,
  /** Mutex: writing what the flush log remembers. */
  LOG: 19,
  /** What it remembers: extents, and bytes of data. */
  LOG_COUNT: 20,
  LOG_FILL: 21,
  /** See LogState in flush-log-writer.ts. */
  LOG_STATE: 22,
  /** The number of the last record in two words, lower part first. */
  LOG_NUMBER: 23,
  /** How far the log reaches. */
  LOG_END: 25,
  /** Mutex: writing head and stamp. */
  STAMP: 32,
  /** What the stamp says, guarded by STAMP: a generation and a record number in two words each, lower part first. */
  GENERATION: 33,
  LOG_DONE: 35,
  USES_LOG: 37,
  /** The millisecond of the last generation, of which only the lowest 32 bits count. */
  TICKED_AT: 38,
  /** Words in all. */
  LENGTH: 40,
} as const;

/** What is in `UNFLUSHED`: what has changed since the last checkpoint began. */
export const Unflushed = {
  NOTHING: 0,
  /** Nothing but what the flush log remembers, or has in its records. */
  REMEMBERED: 1,
  /** Something that only a checkpoint makes durable. */
  OTHER: 2,
} as const;

/** Says that something has changed which only a checkpoint makes durable: once all of it is done, marks included. */
export function announce(control: Int32Array): void {
  if (Atomics.load(control, Control.UNFLUSHED) !== Unflushed.OTHER)
    Atomics.store(control, Control.UNFLUSHED, Unflushed.OTHER);
}

/** What is in `FAILED`. */
export const Failure = {
  NONE: 0,
  /** An fsync has failed: nothing is known to be durable any more. */
  FSYNC: 1,
  /** Marks could not be kept that others may have relied on: not even answered writes of this moment would survive a crash. */
  COMMIT: 2,
} as const;

export interface SharedState {
  readonly control: SharedArrayBuffer;
  readonly locks: SharedArrayBuffer;
  /** One word per lock: how often blocks were allocated under it. */
  readonly allocations: SharedArrayBuffer;
  /** One byte per page of the bitmap, see PageState. */
  readonly pages: SharedArrayBuffer;
  readonly bitmap: SharedArrayBuffer;
  /** What the flush log remembers. */
  readonly log: SharedArrayBuffer;
}

/** What is in a byte of `pages`. */
export const PageState = {
  /** Nothing is marked in it. */
  EMPTY: 0,
  /** Has marks that are not on disk. */
  CHANGED: 1,
  /** All its marks are on disk. */
  STORED: 2,
} as const;

/**
 * Fresh state for a bitmap of that many bytes, nothing marked.
 *
 * @throws CowError `unsuitable` if there is no memory for it
 */
export function newSharedState(mapSizeBytes: number): SharedState {
  try {
    return allocate(mapSizeBytes);
  } catch (cause) {
    const message = `the bitmap of an image as large as this, ${mapSizeBytes} bytes, does not fit into memory`;
    throw new CowError("unsuitable", message, { cause });
  }
}

function allocate(mapSizeBytes: number): SharedState {
  return {
    control: new SharedArrayBuffer(Control.LENGTH * 4),
    locks: new SharedArrayBuffer(LOCKS * 4),
    allocations: new SharedArrayBuffer(LOCKS * 4),
    pages: new SharedArrayBuffer(Math.ceil(mapSizeBytes / MAP_PAGE_BYTES) + 1),
    bitmap: new SharedArrayBuffer(Math.ceil(mapSizeBytes / 4) * 4),
    log: new SharedArrayBuffer(REMEMBERED_BYTES),
  };
}
