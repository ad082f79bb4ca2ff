/**
 * Owns what the pool and its threads say to each other.
 */
import type { PassedImage } from "../../stack/live/passed-image.ts";
import type { Negotiated } from "../handshake/export.ts";

export interface WorkerSetup {
  readonly busy: SharedArrayBuffer;
  /** A file without a name to practise on, if there is time to get ready: no client waits for the thread yet. */
  readonly warmUpFd: number | undefined;
}

/** The message that ends a thread which has no connection. */
export const END = "end";

/** The number of a message that is about no connection: the thread is ready. */
export const READY = -1;

/** A connection for a worker. */
export interface WorkerJob {
  /** A socket; whoever gave the job closes it once the job is done. */
  readonly fd: number;
  readonly exportNumber: number;
  readonly image: PassedImage;
  readonly negotiated: Negotiated;
  readonly rest: Uint8Array;
}

/** As it goes to the thread. */
export interface NumberedJob extends WorkerJob {
  readonly id: number;
  /** The thread has other connections, too: it must not block on this one. */
  readonly shared: boolean;
}

export interface WorkerDone {
  readonly id: number;
  /** What went wrong on our side, for the server's user. */
  readonly failure: string | undefined;
}
