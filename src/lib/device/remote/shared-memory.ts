/**
 * Owns the memory that a remote device shares with its helper thread, and the rules of waking each other. One side calls
 * and blocks, the other one has an event loop:
 *
 * - A call: numbers are laid out, CALL becomes POSTED, the doorbell rings; the helper answers
 *   by CALL becoming DONE or FAILED.
 * - Pieces: slots of PIECE_BYTES become PENDING and their numbers are put into the ring; the helper makes each READY or
 *   FAILED. A slot that is PENDING belongs to the helper, all others to the caller.
 */
import type { Shared } from "../../bytes/shared.ts";

/** Read-ahead works in pieces of this size, at multiples of it. */
export const PIECE_BYTES = 64 << 10;
/** 16 MiB of them. A power of two: the ring counts on. */
export const PIECE_COUNT = 256;
/** The most that one call carries. */
export const CALL_BYTES = 1 << 20;
const TEXT_BYTES = 64 << 10;

/** Indexes into `words`. */
export const Word = { DOORBELL: 0, CALL: 1, RING_HEAD: 2, RING_TAIL: 3, TEXT_LENGTH: 4, PULSE: 5, ENDED: 6 } as const;
const WORD_COUNT = 16;

/** Values of `words[CALL]`. */
export const Call = { IDLE: 0, POSTED: 1, RUNNING: 2, DONE: 3, FAILED: 4 } as const;

/** The operation, in `numbers[OP]`. */
export const Op = { OPEN: 1, READ: 2, STATUS: 3, CLOSE: 4, REMEMBER: 5 } as const;

/** Indexes into `numbers`. RESULT is what a call answers with, if it is a number. */
export const Numbers = { OP: 0, OFFSET: 1, LENGTH: 2, RESULT: 3 } as const;
const NUMBER_COUNT = 8;

/** Values of `states`. */
export const Slot = { EMPTY: 0, PENDING: 1, READY: 2, FAILED: 3 } as const;

export interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
  readonly words: Shared<Int32Array>;
  /** Of each slot. */
  readonly states: Shared<Int32Array>;
  /** Numbers of slots that are to be filled. */
  readonly ring: Shared<Int32Array>;
  readonly numbers: Shared<Float64Array>;
  /** Of each slot: where in the export its piece begins, in bytes. */
  readonly offsets: Shared<Float64Array>;
  readonly text: Shared<Uint8Array>;
  /** Data of the call. */
  readonly data: Shared<Uint8Array>;
  readonly pieces: Shared<Uint8Array>;
}

const BYTES =
  4 * (WORD_COUNT + 2 * PIECE_COUNT) +
  8 * (NUMBER_COUNT + PIECE_COUNT) +
  TEXT_BYTES +
  CALL_BYTES +
  PIECE_COUNT * PIECE_BYTES;

export function newSharedMemory(): SharedMemory {
  return mapSharedMemory(new SharedArrayBuffer(BYTES));
}

/** The same memory, as seen by the other thread. */
export function mapSharedMemory(buffer: SharedArrayBuffer): SharedMemory {
  let at = 0;
  const next = (bytes: number): number => {
    at += bytes;
    return at - bytes;
  };
  return {
    buffer,
    numbers: new Float64Array(buffer, next(8 * NUMBER_COUNT), NUMBER_COUNT),
    offsets: new Float64Array(buffer, next(8 * PIECE_COUNT), PIECE_COUNT),
    words: new Int32Array(buffer, next(4 * WORD_COUNT), WORD_COUNT),
    states: new Int32Array(buffer, next(4 * PIECE_COUNT), PIECE_COUNT),
    ring: new Int32Array(buffer, next(4 * PIECE_COUNT), PIECE_COUNT),
    text: new Uint8Array(buffer, next(TEXT_BYTES), TEXT_BYTES),
    data: new Uint8Array(buffer, next(CALL_BYTES), CALL_BYTES),
    pieces: new Uint8Array(buffer, next(PIECE_COUNT * PIECE_BYTES), PIECE_COUNT * PIECE_BYTES),
  };
}

/** Writes a value as JSON for the other side; one that does not fit becomes an empty object. */
export function putText({ words, text }: SharedMemory, value: unknown): void {
  const json = Buffer.from(JSON.stringify(value));
  const bytes = json.length <= TEXT_BYTES ? json : Buffer.from("{}");
  text.set(bytes);
  words[Word.TEXT_LENGTH] = bytes.length;
}

/** Reads the value that the other side wrote. */
export function takeText({ words, text }: SharedMemory): unknown {
  return JSON.parse(Buffer.from(text.slice(0, words[Word.TEXT_LENGTH] ?? 0)).toString("utf8"));
}

/** Sets a word and wakes threads that wait for it. */
export function announce(array: Shared<Int32Array>, index: number, value: number): void {
  Atomics.store(array, index, value);
  Atomics.notify(array, index);
}
