/**
 * Owns the one device interface: what overlays, operations and the NBD server read from and write to.
 * Calls block, because the data plane runs in workers and the offline commands want no thread hop per block;
 * long loops yield between calls (see makeYielder in context.ts).
 */
import type { ByteTarget } from "../bytes/byte-source.ts";
import type { Extent } from "../bytes/extent.ts";
import type { Remarks } from "../formats/format.ts";
import type { KnownLength } from "./known-length.ts";
import type { Remembered } from "./remote/sameness.ts";

/** Receives a part of a file that is not in memory. */
export type OnCacheMiss = (fd: number, offset: number, lengthBytes: number) => void;

/** A regular file or block device of this machine that is open; FileDevice says what each means. */
export interface LocalFile {
  readonly fd: number;
  readonly isBlockDevice: boolean;
  readonly identity: string;
  readonly length: KnownLength;
  measure(): number;
  isWhole(): boolean;
  isUnlinked(): boolean;
  /** As flush(), while this thread does something else. @throws CowError `io` */
  flushAside(): Promise<void>;
  /** Has an exclusive lock become a shared one: nothing is written by way of this device any more. @throws CowError `locked` */
  shareLock(): void;
  /** Says that the kernel wrote a part of it. */
  noteWritten(offset: number, length: number): void;
}

/** An export of an NBD server, which is found again by its URI. */
export interface RemoteExport {
  /** What is remembered of it, for other devices of the same export. */
  readonly remembered: Remembered;
  /** Is it known that another image is there by now? */
  readonly isReplaced: boolean;
}

export interface BlockDevice extends ByteTarget, Remarks {
  readonly writable: boolean;
  /** An open file descriptor behind the device at offset 0, for copies that the kernel makes; undefined if there is none. */
  readonly fd: number | undefined;
  /** The file that it is; absent for anything else. */
  readonly file?: LocalFile | undefined;
  /** The export that it is; absent for anything else. */
  readonly remote?: RemoteExport | undefined;
  /**
   * Frees the space of `[offset, offset + length)`, which then reads as zeros.
   * @returns false if impossible: the caller then writes zeros
   */
  punchHole(offset: number, length: number): boolean;
  /**
   * Fills `target` if that needs no waiting, and returns whether it did. Absent if a device can't tell.
   *
   * @param onCacheMiss receives where to read the data from, if it is all in one place of a file
   */
  tryRead?(target: Uint8Array, offsetBytes: number, onCacheMiss: OnCacheMiss): boolean;
  /**
   * The address of a part of the device in this process's memory, to be read by system calls only; 0 if it is not
   * mapped, or not in the page cache. Absent if nothing is mapped.
   */
  addressOf?(offsetBytes: number, lengthBytes: number): number;
  /** Makes addressOf() ask again, after data had to be fetched or could not be read. */
  invalidateMappings?(): void;
  /**
   * Remembers parts, to be compared whenever the device is found again after it was lost, so that another one is
   * noticed. Absent if it cannot be lost.
   */
  remember?(extents: readonly Extent[]): void;
  /** Makes durable that the file has its name. Absent if it has none of its own. @throws CowError `io` */
  syncName?(): void;
  close(): void;
}
