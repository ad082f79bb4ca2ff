/**
 * Owns the memory that all threads serving one writable image share: the bitmap, which parts of it are not on disk yet,
 * the locks, and a few counters. Plain SharedArrayBuffers, so that it can be posted to a worker.
 */

import type { Shared } from "../../bytes/shared.ts";
import { CowError } from "../../errors.ts";
import { BITMAP_OFFSET_BYTES } from "../../formats/cowfile/layout.ts";
import { MAX_RECORD_DATA_BYTES, MAX_RECORD_EXTENTS } from "../../formats/cowfile/live/flush-log.ts";

/** Blocks that one lock guards: 32 bytes of bitmap, so that no two regions share a word. */
export const REGION_BLOCKS = 256;
/** Bytes of the bitmap that are written together: a page of the file. */
export const MAP_PAGE_BYTES = 4096;
/** The page of the bitmap that holds a block's mark. Pages are those of the file, and the bitmap begins inside one. */
export function pageOf(block: number): number {
  return Math.floor((BITMAP_OFFSET_BYTES + Math.floor(block / 8)) / MAP_PAGE_BYTES);
}

/** Number of locks; regions that are a multiple of this apart share one. */
export const LOCKS = 8192;

/** Two for each place that the flush log's memory has. */
const LOG_NUMBERS = 2 * MAX_RECORD_EXTENTS;
/** Parts begin at a multiple of this: the unit in which processors share memory. */
const LINE_BYTES = 64;

/** Places in `control`. */
export const Control = {
  /** 1 once the head on disk says dirty, durably; 2 while it may. */
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
  /** 1 once a write has failed: part of its data may be in unallocated blocks. */
  RESIDUE: 17,
  /** Journal entries that threads are about to write. */
  PROMISED: 18,
  /** Mutex: writing the flush log's memory. */
  LOG: 19,
  /** Size of its memory: extents, and bytes of data. */
  LOG_COUNT: 20,
  LOG_FILL: 21,
  /** See LogState in flush-log-writer.ts. */
  LOG_STATE: 22,
  /** The number of the last record in two words, lower part first. */
  LOG_NUMBER: 23,
  /** How far the log reaches. */
  LOG_END: 25,
  /** 1 once the journal has room for entries and records. */
  JOURNAL_ROOM: 26,
  /** 1 once the journal, and its name, are durable. */
  JOURNAL_DURABLE: 27,
  /** Mutex: writing head and stamp. */
  STAMP: 32,
  /** The stamp's values, guarded by STAMP: a generation and a record number in two words each, lower part first. */
  GENERATION: 33,
  LOG_DONE: 35,
  USES_LOG: 37,
  /** The millisecond of the last generation, of which only the lowest 32 bits count. */
  TICKED_AT: 38,
  /** Words in all. */
  LENGTH: 40,
} as const;

/** Values of `UNFLUSHED`: the changes since the last checkpoint began. */
export const Unflushed = {
  NOTHING: 0,
  /** Only changes in the flush log's memory, or in its records. */
  REMEMBERED: 1,
  /** Changes that only a checkpoint makes durable. */
  OTHER: 2,
} as const;

/** Announces a change that only a checkpoint makes durable; called after data and allocation are complete. */
export function announce(control: Int32Array): void {
  if (Atomics.load(control, Control.UNFLUSHED) !== Unflushed.OTHER)
    Atomics.store(control, Control.UNFLUSHED, Unflushed.OTHER);
}

/** Values of `FAILED`. */
export const Failure = {
  NONE: 0,
  /** An fsync has failed: it is not known what is durable. */
  FSYNC: 1,
  /**
   * Allocations that others may have relied on could not be recorded: not even answered writes of this moment would
   * survive a crash.
   */
  COMMIT: 2,
} as const;

/** Parts of one SharedArrayBuffer: it is so large that the system gives memory only for what is touched. */
export interface SharedState {
  readonly control: Shared<Int32Array>;
  readonly locks: Shared<Int32Array>;
  /** One word per lock: how often blocks were allocated under it. */
  readonly allocations: Shared<Int32Array>;
  /** One byte per page of the bitmap, see PageState. */
  readonly pages: Shared<Uint8Array>;
  readonly bitmap: Shared<Uint8Array>;
  /** What the flush log remembers: places, and data. */
  readonly logPlaces: Shared<Float64Array>;
  readonly logData: Shared<Uint8Array>;
}

/** Values of a byte of `pages`. */
export const PageState = {
  /** Nothing is allocated in it. */
  EMPTY: 0,
  /** Has allocations that are not on disk. */
  CHANGED: 1,
  /** All its allocations are on disk. */
  STORED: 2,
} as const;

/**
 * Fresh state for a bitmap of that many bytes, nothing allocated.
 *
 * @throws CowError `unsuitable` if there is no memory for it
 */
export function newSharedState(mapSizeBytes: number): SharedState {
  const sizes = [
    Control.LENGTH * 4,
    Math.ceil(mapSizeBytes / MAP_PAGE_BYTES) + 1,
    roundUp(mapSizeBytes, 4),
    LOG_NUMBERS * 8,
    MAX_RECORD_DATA_BYTES,
    LOCKS * 4,
    LOCKS * 4,
  ] as const;
  const starts: number[] = [];
  let end = 0;
  for (const size of sizes) {
    starts.push(end);
    end = roundUp(end + size, LINE_BYTES);
  }
  const memory = newMemory(end, mapSizeBytes);
  const [control = 0, pages, bitmap, logPlaces, logData, locks, allocations] = starts;
  return {
    control: new Int32Array(memory, control, Control.LENGTH),
    pages: new Uint8Array(memory, pages, sizes[1]),
    bitmap: new Uint8Array(memory, bitmap, sizes[2]),
    logPlaces: new Float64Array(memory, logPlaces, LOG_NUMBERS),
    logData: new Uint8Array(memory, logData, MAX_RECORD_DATA_BYTES),
    locks: new Int32Array(memory, locks, LOCKS),
    allocations: new Int32Array(memory, allocations, LOCKS),
  };
}

/** A bitmap alone, for a layer that is only read. @throws CowError `unsuitable` if there is no memory for it */
export function newBitmap(mapSizeBytes: number): Shared<Uint8Array> {
  return new Uint8Array(newMemory(roundUp(mapSizeBytes, 4), mapSizeBytes));
}

function newMemory(bytes: number, mapSizeBytes: number): SharedArrayBuffer {
  try {
    return new SharedArrayBuffer(bytes);
  } catch (cause) {
    const message = `the bitmap of an image as large as this, ${mapSizeBytes} bytes, does not fit into memory`;
    throw new CowError("unsuitable", message, { cause });
  }
}

function roundUp(bytes: number, unit: number): number {
  return Math.ceil(bytes / unit) * unit;
}
