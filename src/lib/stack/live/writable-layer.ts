/**
 * Owns the interface of the written layer of a served image: how the image (live-stack-image.ts) changes a format's
 * file. Each thread has its own object. Calls block.
 *
 * A change has three steps: claim the range, which looks its allocation up once; hold the claim, so that no other
 * thread allocates in it; change it, which writes the data and then allocates.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import type { SearchableLayer } from "../../formats/format.ts";
import type { Claim } from "./claim.ts";
import type { SpaceReserve } from "./space-reserve.ts";
import type { SpaceUsage } from "./space-usage.ts";

/** Data that is written to one place. */
export interface PlacedData {
  readonly source: Uint8Array;
  /** Its offset in the image. */
  readonly offset: number;
}

export interface WritableLayer {
  /** Its current contents. */
  readonly layer: SearchableLayer;
  /** Its file. Only change() can write to it. */
  readonly file: Omit<BlockDevice, "write" | "punchHole" | "resize" | "flush" | "close">;
  /** Of the image. */
  readonly sizeBytes: number;
  /** The unit of allocation. Its units are counted from the start of the image. */
  readonly unitBytes: number;
  /** How many units may be allocated by one change() now. */
  readonly unitsInRow: number;
  /** Can holes be punched into its file? */
  readonly canPunch: boolean;
  /** Does a trim turn data of the backing into zeros? Otherwise only allocated units are changed. */
  readonly trimsBacking: boolean;
  /** Has a commit failed, of any thread? */
  readonly failed: boolean;
  /** Space to keep free on its file system. */
  readonly reserve: SpaceReserve;
  /** What it has allocated, and its quota; change() counts. */
  readonly usage: SpaceUsage;
  /** Checks that a write to the whole range has space, if that is known beforehand. @throws CowError `no-space` */
  makeRoom(offsetBytes: number, endBytes: number): void;
  /** Looks up the units of a range, or the first of them. Valid until the next claim. */
  claim(offsetBytes: number, endBytes: number): Claim;
  /** Is all of a claim allocated, so that it can be rewritten without being held? */
  isSettled(claim: Claim): boolean;
  /** Keeps other threads from allocating in it until commit(). The claim is up to date then. */
  hold(claim: Claim): void;
  /**
   * Claims as much of a long range as one turn may hold, and releases it after `work`.
   * @returns the unit where it ends
   */
  claimLong(offsetBytes: number, endBytes: number, work: (claim: Claim) => void): number;
  /**
   * Changes the data of claimed units, and then allocates those that are not allocated yet; for these the claim is held.
   *
   * @param work writes the data of each unit that is not allocated wholly, at its offset in the image plus `claim.shift`
   * @param whole what `work` writes, if it is one piece
   * @throws CowError `io`, `no-space`; part of it may be done then
   */
  change(claim: Claim, work: (file: BlockDevice) => void, whole?: PlacedData): void;
  /** Writes to units that are all allocated. @param fileOffset of the data's place @throws CowError as change() */
  rewrite(whole: PlacedData, fileOffset: number): void;
  /** Punches a hole, within change(). @returns false where zeros must be written instead */
  punch(file: BlockDevice, fileOffset: number, lengthBytes: number): boolean;
  /** As LiveImage.commit() */
  commit(): void;
  /** As LiveImage.flush() */
  flush(): void;
}
