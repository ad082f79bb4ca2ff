/**
 * Owns the interface of an image that is being served: the requests of a connection. Each thread has its own object for
 * the same image. Calls block.
 */

import type { OnCacheMiss } from "../../device/block-device.ts";
import type { Since } from "./checkpoint-level.ts";
import type { LevelReads } from "./level-reads.ts";

/** The status of a part of an image; the caller chooses which question it answers. */
export type StatusKind = "allocation" | "depth" | "dirty" | Since;

/** Called for each extent in turn, ascending and without gaps; neighbours may have equal flags. False stops it. */
export type OnStatus = (lengthBytes: number, flags: number) => boolean;

export interface ZeroOptions {
  /** The space may be freed. */
  readonly mayPunch: boolean;
}

export interface LiveImage {
  readonly name: string;
  readonly sizeBytes: number;
  readonly writable: boolean;
  /** Can zeros be made without writing them? */
  readonly zeroesFast: boolean;
  /** Which levels of the stack requests read from; the caller says when one begins. */
  readonly reads: LevelReads;
  /**
   * Must be called before a batch of requests: checks now and then whether a file was cut short, which would not show
   * in the rest of its last page, and after writes beyond its new end.
   *
   * @param nowNs the time in nanoseconds, on one clock
   */
  lookAtFiles(nowNs: number): void;
  /** Fills `target`; the range must be within the image. @throws CowError `io` */
  read(target: Uint8Array, offsetBytes: number): void;
  /** As read(), if nothing has to be waited for; else returns false. @param onCacheMiss as BlockDevice.tryRead() */
  tryRead(target: Uint8Array, offsetBytes: number, onCacheMiss: OnCacheMiss): boolean;
  /**
   * The address of the range in this process's memory, to be read by system calls; 0 if it is not mapped, not in one
   * place, or would have to be fetched. System calls must still be ready for EFAULT.
   */
  addressOf(offsetBytes: number, lengthBytes: number): number;
  /** Makes addressOf() ask again, after data had to be fetched or could not be read. */
  invalidateMappings(): void;
  /** No reply to a change may go out before commit() has returned. @throws CowError `io`, `no-space` */
  write(source: Uint8Array, offsetBytes: number): void;
  /** Makes the range read as zeros. */
  zero(offsetBytes: number, lengthBytes: number, options: ZeroOptions): void;
  /** Discards the range's content, in whole blocks; it reads as zeros or stays, but never turns into the base's. */
  trim(offsetBytes: number, lengthBytes: number): void;
  /** Makes the changes of this thread outlive the process. @throws CowError `io`; then failed is true */
  commit(): void;
  /** Has a commit failed, of this thread or another? Then no reply to a change that still waits may be sent. */
  readonly failed: boolean;
  /** Makes every change durable that was committed before, by any thread. */
  flush(): void;
  /**
   * May end before the range does, but not at its beginning.
   * @throws CowError `not-found` for a checkpoint that the image has no more
   */
  status(kind: StatusKind, offsetBytes: number, lengthBytes: number, onStatus: OnStatus): void;
}
