/**
 * Owns the one device interface: what overlays, operations and the NBD server read from and write to.
 * Calls block, because the data plane runs in workers and the offline commands want no thread hop per block;
 * long loops yield between calls (see makeYielder in context.ts).
 */
import type { ByteTarget } from "../bytes/byte-source.ts";
import type { Extent } from "../bytes/extent.ts";

/** Told of a part of a file that is not in memory. */
export type OnCacheMiss = (fd: number, offset: number, lengthBytes: number) => void;

export interface BlockDevice extends ByteTarget {
  readonly writable: boolean;
  /** An open file descriptor behind the device at offset 0, for copies that the kernel makes; undefined if there is none. */
  readonly fd: number | undefined;
  /**
   * Gives the space of `[offset, offset + length)` back, so that it reads as zeros.
   * @returns false where that is not possible: the caller then writes zeros
   */
  punchHole(offset: number, length: number): boolean;
  /**
   * Fills `target` if that needs no waiting, and returns whether it did. Absent where a device can't tell.
   *
   * @param onCacheMiss told where the data would have to be read from, if it is all in one place of a file
   */
  tryRead?(target: Uint8Array, offsetBytes: number, onCacheMiss: OnCacheMiss): boolean;
  /**
   * Where a part of the device lies in this process's memory, for system calls (nothing else) to read it there; 0 if it
   * doesn't, or would have to be fetched first. Absent where nothing does.
   */
  addressOf?(offsetBytes: number, lengthBytes: number): number;
  /** Has addressOf() look again: something had to be fetched, or could not be had. */
  invalidateMappings?(): void;
  /**
   * Has parts of it compared from here on whenever it is found again after it was lost, so that it is not taken for another
   * one. Absent where nothing can be lost.
   */
  remember?(extents: readonly Extent[]): void;
  close(): void;
}
