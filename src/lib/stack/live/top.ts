/**
 * Owns the written layer of a served stack, in one form for all formats: a layer that is open for writing, or one that
 * is discarded with the server.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import { asLent } from "../../device/borrowed-file.ts";
import type { Storage } from "../../device/storage.ts";
import { bareConfig, makeOrder, type SharedCowfile, usageOf } from "./cowfile-config.ts";
import type { WrittenFile } from "./file-guard.ts";
import type { FoundState } from "./found-state.ts";
import { Control } from "./shared-state.ts";
import type { SpaceUsage } from "./space-usage.ts";
import type { WritableLayer } from "./writable-layer.ts";

export interface Top {
  /** The layer's file. */
  readonly device: BlockDevice;
  /** Of the image. */
  readonly sizeBytes: number;
  /** Files with a name that are written, the layer's first. */
  readonly written: readonly WrittenFile[];
  /** What it has allocated, and its quota. */
  readonly usage: SpaceUsage;
  /** How a cowfile was found. */
  readonly found?: FoundState;
  /** What other threads need to use it; undefined if only one thread can. */
  readonly shared?: SharedCowfile;
  /** Has nothing failed that makes what was replied to doubtful? */
  readonly isSound?: boolean;
  /** A thread's way to change it. */
  writable(): WritableLayer;
  /** Writes everything that is durable elsewhere into the file itself. @throws CowError as flush() */
  checkpoint?(): void;
  /**
   * Makes most of what was written durable, while this thread does something else, so that little is left for a flush. One that fails
   * counts as a flush that failed.
   *
   * @param limitMs it is not waited for any longer
   */
  flushAhead?(limitMs?: number): Promise<void>;
  /** Makes everything durable in its place in the file itself. @throws CowError as flush() */
  settle?(): void;
  /** Says for which fingerprint of its backing it is made, which was not known before. @throws CowError `io` */
  nameBase?(fingerprint: number): void;
  /** Does beforehand what the first change would have to wait for. @throws CowError `io`, `no-space` */
  makeReady?(): void;
  /**
   * Marks it clean and removes its journal; it stays open for reading, and others may read it, too. It is never changed again,
   * and everything is durable in its place.
   * @throws CowError `io`
   */
  finish?(): void;
  /** Makes everything durable and closes. No thread uses it any more. @throws CowError if that fails */
  close(): void;
  /** Closes as a crash would leave it. */
  abandon(): void;
}

/** A layer without head and journal in a file without a name. */
export function throwAway(storage: Storage, name: string, sizeBytes: number): Top {
  const cow = storage.scratch(`${name} (throw-away layer)`);
  const config = bareConfig(cow.name, sizeBytes);
  config.state.control[Control.CAN_PUNCH] = cow.punchHole(0, 4096) ? 1 : 0;
  const close = (): void => cow.close();
  const shared = { cow: asLent(cow), journal: undefined, config };
  return {
    device: shared.cow,
    sizeBytes,
    written: [],
    usage: usageOf(config),
    shared,
    writable: () => makeOrder(shared),
    close,
    abandon: close,
  };
}
