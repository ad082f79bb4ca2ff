/**
 * Owns the interface of everything that writes a new image. A writer is told, ascending, which parts of the image the file
 * holds, and tells where their bytes go; copying them is the caller's business (output/write-image.ts).
 */
import type { Extent } from "../bytes/extent.ts";

/** A part of the image, and where its bytes go in the file. */
export interface Destination extends Extent {
  readonly at: number;
}

/** What a writer needs to know of itself to resume: small numbers, kept in the note of an interrupted conversion. */
export type WriterState = Readonly<Record<string, number>>;

export interface ImageWriter {
  /** Parts of the image are given in multiples of it, but for the end of the image. */
  readonly unitBytes: number;
  /** A unit of zeros is something else in the file than a unit of data, so that each has to be looked at. */
  readonly marksZeros?: boolean;
  /** Room for bytes that are about to be written; what of them is not written stays zero. */
  data(offset: number, length: number): Iterable<Destination>;
  /** Parts that read as zeros, whatever is in the layers below. */
  zeros(offset: number, length: number): void;
  /** Writes what is only in memory, so that a new writer can `resume` with what this returns. */
  checkpoint(): WriterState;
  /** Goes on with a file of which everything before `offset` is done; called before anything else, if at all. */
  resume(offset: number, state: WriterState): void;
  /** Completes the file, but for the flush. */
  finish(): void;
}
