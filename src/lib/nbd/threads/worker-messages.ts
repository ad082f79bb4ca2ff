/**
 * Owns what the pool and its threads say to each other.
 */
import type { MessagePort } from "node:worker_threads";
import type { PassedGate } from "../../stack/live/gate.ts";
import type { PassedImage } from "../../stack/live/passed-image.ts";
import type { Negotiated } from "../handshake/export.ts";
import type { PassedMeter } from "../meter/slot.ts";

export interface WorkerSetup {
  readonly busy: SharedArrayBuffer;
  /** A file without a name for the warm-up, unless a client is already waiting for the thread. */
  readonly warmUpFd: number | undefined;
  /** Read between two batches, also by a thread that blocks on its connection: News. */
  readonly news: MessagePort;
}

/** The parts that an export has from an epoch on; told before that begins. */
export interface News {
  readonly exportNumber: number;
  readonly image: PassedImage;
}

/** The message that ends a thread which has no connection. */
export const END = "end";

/** Lets go of the image of an export that was closed. */
export interface Forget {
  readonly forget: number;
}

/** The number of a message without a connection: the thread is ready. */
export const READY = -1;

/** A connection for a worker. */
export interface WorkerJob {
  /** A socket; the giver closes it after the job. */
  readonly fd: number;
  readonly exportNumber: number;
  /** As it is when the thread is told of the connection. */
  readonly image: () => PassedImage;
  readonly negotiated: Negotiated;
  readonly rest: Uint8Array;
  /** Where the thread counts what it does. */
  readonly meter: PassedMeter;
  readonly gate: PassedGate;
}

/** A job with its number, as sent to the thread. */
export interface NumberedJob extends Omit<WorkerJob, "image"> {
  readonly image: PassedImage;
  readonly id: number;
  /** The thread has other connections, too: it must not block on this one. */
  readonly shared: boolean;
}

export interface WorkerDone {
  readonly id: number;
  /** What went wrong on our side, for the server's user. */
  readonly failure: string | undefined;
}
