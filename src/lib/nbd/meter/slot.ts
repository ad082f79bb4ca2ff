/**
 * Owns the memory in which connections are counted, and its layout.
 *
 * Each connection has a slot of its own, and only the thread that serves it writes there, with plain stores of 64-bit
 * floats: nothing is locked and nothing is lost. Counts are exact up to 2^53 and never wrap. The server's main thread
 * reads while they are written: each number is one store on 64-bit machines, so a number is never torn; but numbers of a
 * batch may be new beside others that are not yet. A thread writes its slot before it sends the replies: a client that
 * has a reply finds it counted. When a connection has ended, the main thread adds its slot to the export's totals.
 *
 * What connections of an export need of each other is in the export's own memory, and changed by Atomics only: how much
 * was written and flushed, and the limits' state, as 64-bit integers. A count of bytes would wrap after 8 EiB.
 */
import { BUCKETS } from "./histogram.ts";

/** Places in a slot, 64 bits each. The first has two words of 32 bits, changed by Atomics: see Wake. */
export const Place = {
  WAKE: 0,
  /** Answered requests by their command, whose numbers are up to 7. */
  COMMANDS: 1,
  BYTES_READ: 9,
  BYTES_WRITTEN: 10,
  ERRORS: 11,
  /** Sums of latencies in nanoseconds, one for each kind. */
  LATENCY_SUMS: 12,
  /** Their histograms. */
  HISTOGRAMS: 15,
  /** Requests that read each level of the stack, base first. */
  LEVELS: 15 + 3 * BUCKETS,
} as const;

/** Words of 32 bits at the beginning of a slot. */
export const Wake = {
  /** Changes when a thread that waits for the limit is to look again. */
  COUNT: 0,
  /** 1 once the connection ends: its last requests do not wait. */
  IS_ENDING: 1,
} as const;

/** An image has at most as many cells. */
export const TOUCHED_CELLS = 1024;

/** Places in an export's memory, 64 bits each. */
export const Shared = {
  /** As a word of 32 bits: 1 where there is a limit. */
  IS_LIMITED: 0,
  WRITTEN: 1,
  FLUSHED: 2,
  IOPS: 3,
  BYTES_PER_SECOND: 4,
  /** When all that was let in is paid for, at the rate of requests and of bytes. */
  OPERATIONS_PAID_NS: 5,
  BYTES_PAID_NS: 6,
  /** Which cells of the image were written, a byte for each: see touched.ts. */
  TOUCHED: 7,
  LENGTH: 7 + TOUCHED_CELLS / 8,
} as const;

/** The memory that a connection's thread needs. */
export interface PassedMeter {
  readonly slot: SharedArrayBuffer;
  readonly shared: SharedArrayBuffer;
}

/** The stack may get this many more layers while a connection uses it; what is above counts for the last level. */
const MORE_LEVELS = 32;

/** @param levels the base, and each layer */
export function newSlot(levels: number): SharedArrayBuffer {
  return new SharedArrayBuffer((Place.LEVELS + levels + MORE_LEVELS) * 8);
}

export function newShared(): SharedArrayBuffer {
  return new SharedArrayBuffer(Shared.LENGTH * 8);
}

/** Wakes the thread that waits in a slot: it looks at the limit again. */
export function wake(slot: SharedArrayBuffer, isEnding: boolean): void {
  const words = new Int32Array(slot, 0, 2);
  if (isEnding) Atomics.store(words, Wake.IS_ENDING, 1);
  Atomics.add(words, Wake.COUNT, 1);
  Atomics.notify(words, Wake.COUNT);
}
