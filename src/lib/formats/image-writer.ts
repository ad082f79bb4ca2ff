/**
 * Owns the interface for writing new images. A writer receives, ascending, which parts of the image the file holds, and
 * answers where their bytes go; the caller copies them (output/write-image.ts).
 */
import type { Extent } from "../bytes/extent.ts";

/** A part of the image, and where its bytes go in the file. */
export interface Destination extends Extent {
  readonly at: number;
}

/** A writer's own state for resuming: small numbers, kept in the note of an interrupted conversion. */
export type WriterState = Readonly<Record<string, number>>;

export interface ImageWriter {
  /** Parts of the image are given in multiples of this, except at the end of the image. */
  readonly unitBytes: number;
  /** In the file, a unit of zeros differs from a unit of data, so each has to be examined. */
  readonly marksZeros?: boolean;
  /** Allocates space for bytes that are about to be written; bytes that are not written stay zero. */
  data(offset: number, length: number): Iterable<Destination>;
  /** Parts that read as zeros, even if the layers below have data. */
  zeros(offset: number, length: number): void;
  /** Writes everything that is only in memory, so that a new writer can `resume` with the result. */
  checkpoint(): WriterState;
  /** Resumes a file in which everything before `offset` is done; called first, if at all. */
  resume(offset: number, state: WriterState): void;
  /** Completes the file, except for the flush. */
  finish(): void;
}
