/**
 * Owns what a diff is asked for and what it answers.
 */
import type { Extent, ExtentList } from "../../bytes/extent.ts";

/** How two images differ in a part. */
export type DifferenceKind = "changed" | "only_a" | "only_b";

/** Whole blocks of 1024 bytes (the last one of an image may be shorter), joined while they are of one kind. */
export interface Difference extends Extent {
  readonly kind: DifferenceKind;
}

/** What `diff` is asked for. */
export interface DiffRequest {
  /** A stack that bare cowfiles are read over. */
  readonly rdofile?: string | undefined;
  /** Write a cowfile over A there that makes it B. */
  readonly delta?: string | undefined;
  /** Replace `delta` if it exists. */
  readonly force?: boolean | undefined;
  /** Replace `delta` whatever it is, if this is its name. */
  readonly replace?: readonly string[] | undefined;
  /** How many differing places are kept with their bytes, for a hexdump. */
  readonly hexdump?: number | undefined;
}

/** A differing place, with what each side has there. */
export interface DifferenceSample {
  readonly offset: number;
  readonly a: Uint8Array;
  readonly b: Uint8Array;
}

/** In what two images differ. */
export interface DiffResult {
  readonly identical: boolean;
  /** Of the larger side. */
  readonly virtualSizeBytes: number;
  readonly bytesDifferent: number;
  readonly extents: Iterable<Difference>;
  /** How many extents there are beyond those listed (half a million). */
  readonly extentsOmitted: number;
  /**
   * Held by a layer of one side, although the same as the common base, which the other side shows there. In bytes of the
   * image. Empty for sides without a common base.
   */
  readonly redundant: ExtentList;
  readonly samples: readonly DifferenceSample[];
}
