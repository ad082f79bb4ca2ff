/**
 * Owns the interface of an image that is being served: what a connection may ask of it. Each thread has its own object
 * for the same image. Calls block.
 */

import type { OnCacheMiss } from "../../device/block-device.ts";

/** What is known of a part of an image: which question it answers is the caller's choice. */
export type StatusKind = "allocation" | "depth" | "dirty";

/** Called for each extent in turn, ascending and without gaps; neighbours may have equal flags. False stops it. */
export type OnStatus = (lengthBytes: number, flags: number) => boolean;

export interface ZeroOptions {
  /** The space may be given back. */
  readonly mayPunch: boolean;
}

export interface LiveImage {
  readonly name: string;
  readonly sizeBytes: number;
  readonly writable: boolean;
  /** Can zeros be made without writing them? */
  readonly zeroesFast: boolean;
  /**
   * To be called before a batch of requests: looks now and then whether a file was cut short, since in what is left of its
   * last page, and behind what is written beyond its new end, that would not show by itself.
   */
  lookAtFiles(): void;
  /** Fills `target`; the range lies within the image. @throws CowError `io` */
  read(target: Uint8Array, offsetBytes: number): void;
  /** As read(), if nothing has to be waited for; false if something has. @param onCacheMiss as BlockDevice.tryRead() */
  tryRead(target: Uint8Array, offsetBytes: number, onCacheMiss: OnCacheMiss): boolean;
  /**
   * Where the range lies in this process's memory, for system calls to read it there; 0 if it doesn't, not in one place, or
   * would have to be fetched. System calls must be ready for EFAULT all the same.
   */
  addressOf(offsetBytes: number, lengthBytes: number): number;
  /** Has addressOf() look again: something had to be fetched, or could not be had. */
  invalidateMappings(): void;
  /** No reply to a change may go out before commit() has returned. @throws CowError `io`, `no-space` */
  write(source: Uint8Array, offsetBytes: number): void;
  /** Makes the range read as zeros. */
  zero(offsetBytes: number, lengthBytes: number, options: ZeroOptions): void;
  /** Gives up the range's content, in whole blocks; what was in it reads as zeros or stays, but never turns into the base's. */
  trim(offsetBytes: number, lengthBytes: number): void;
  /** Makes the changes of this thread outlive the process. @throws CowError `io`; then failed is true */
  commit(): void;
  /** Has a commit failed, of this thread or another? No reply to a change that still waits may go out any more. */
  readonly failed: boolean;
  /** Makes every change durable that was committed before, by any thread. */
  flush(): void;
  status(kind: StatusKind, offsetBytes: number, lengthBytes: number, onStatus: OnStatus): void;
}
