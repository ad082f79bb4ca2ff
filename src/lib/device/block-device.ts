/**
 * Owns the one device interface: what overlays, operations and the NBD server read from and write to.
 * Calls block, because the data plane runs in workers and the offline commands want no thread hop per block;
 * long loops yield between calls (see makeYielder in context.ts).
 */
import type { ByteTarget } from "../bytes/byte-source.ts";
import type { Extent } from "../bytes/extent.ts";

/** Receives a part of a file that is not in memory. */
export type OnCacheMiss = (fd: number, offset: number, lengthBytes: number) => void;

export interface BlockDevice extends ByteTarget {
  readonly writable: boolean;
  /** An open file descriptor behind the device at offset 0, for copies that the kernel makes; undefined if there is none. */
  readonly fd: number | undefined;
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
  close(): void;
}
