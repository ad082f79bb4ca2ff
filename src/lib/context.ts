/**
 * Owns what an operation gets from its caller besides its arguments: storage, progress, cancellation, notices.
 * Must not print: the caller decides what to do with a notice.
 */

import type { Storage } from "./device/storage.ts";
import { CowError } from "./errors.ts";

/**
 * The progress of a long job. `done` and `total` count `unit`s; `total` may grow, `done` never shrinks within a phase.
 */
export interface Progress {
  /** The current activity in words: `scanning`, `merging`. */
  readonly phase: string;
  readonly done: number;
  readonly total: number;
  readonly unit: "bytes" | "blocks";
}

/** A message for the user besides the result: printed as a warning or a note on stderr. */
export interface Notice {
  readonly severity: "note" | "warning";
  readonly file?: string | undefined;
  readonly message: string;
}

/** What an operation works with besides its request; every part may be left out. */
export interface OperationContext {
  /** Where files are; default: the file system of this machine. */
  readonly storage?: Storage | undefined;
  /** Stops the operation at its next safe boundary with a CowError `interrupted`. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  readonly onNotice?: ((notice: Notice) => void) | undefined;
  /** Of a job in the background of a server; default: it has the process to itself. */
  readonly pace?: Pace | undefined;
}

/** How a long job shares the event loop. */
export interface Pace {
  /** It yields as often as this. */
  readonly everyMs: number;
  /** And rests for so long. */
  readonly restMs: number;
}

/** The error for an operation that its signal stopped. `state` says what state the image is in and how to resume. */
export function interrupted(file: string, state: string): CowError {
  return new CowError("interrupted", `interrupted: ${state}`, { file });
}

const ALONE: Pace = { everyMs: 40, restMs: 0 };

/**
 * Lets a blocking loop stay responsive: device calls are synchronous, so without a turn of the event loop no signal
 * handler would run and no progress bar move. Call `await yieldToEventLoop()` as often as you like; it yields at this pace,
 * every 40 ms by default.
 */
export function makeYielder(pace = ALONE): () => Promise<void> | undefined {
  let last = performance.now();
  return () => {
    if (performance.now() - last < pace.everyMs) return undefined;
    return new Promise((resolve) => {
      const goOn = (): void => {
        last = performance.now();
        resolve();
      };
      if (pace.restMs > 0) setTimeout(goOn, pace.restMs);
      else setImmediate(goOn);
    });
  };
}

/** Called within long loops: throws if they are to stop, and lets the event loop turn now and then. */
export type Pause = () => Promise<void> | undefined;

/** @param stopped makes the error for a loop that the signal stops */
export function makePause(signal: AbortSignal | undefined, stopped: () => Error, pace?: Pace): Pause {
  const yieldToEventLoop = makeYielder(pace);
  return () => {
    if (signal?.aborted) throw stopped();
    return yieldToEventLoop();
  };
}
