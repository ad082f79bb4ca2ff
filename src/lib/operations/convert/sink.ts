/**
 * Owns the interface between a conversion and the format that it writes. A sink is told, ascending, which parts of the
 * image the output is to hold, and tells where their bytes go; copying is the caller's business.
 */
import type { Extent } from "../../bytes/extent.ts";
import type { BlockDevice } from "../../device/block-device.ts";

/** A part of the image, and where its bytes go in the output. */
export interface Destination extends Extent {
  readonly at: number;
}

/** What a sink needs to know of itself to go on: small numbers, kept in the note of an interrupted conversion. */
export type SinkState = Readonly<Record<string, number>>;

export interface Sink {
  /** Parts of the image are given in multiples of it, but for the end of the image. */
  readonly unitBytes: number;
  /** Room for bytes that are about to be written; what of them is not written stays zero. */
  data(offset: number, length: number): Iterable<Destination>;
  /** Parts that read as zeros, whatever lies below. */
  zeros(offset: number, length: number): void;
  /** Writes what is only in memory, so that a new sink can `resume` with what this returns. */
  checkpoint(): SinkState;
  /** Goes on with a file of which everything before `offset` is done; called before anything else, if at all. */
  resume(offset: number, state: SinkState): void;
  /** Completes the file, but for the flush. */
  finish(): void;
}

/**
 * Makes a sink that writes to a device: an empty one, or one to be resumed.
 * @param beside opens the second file of formats that have two
 */
export type MakeSink = (target: BlockDevice, beside: (suffix: string) => BlockDevice) => Sink;
