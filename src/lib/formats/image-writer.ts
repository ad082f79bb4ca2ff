/**
 * Owns the interfaces for writing new images. A writer receives, ascending, which parts of the image the file holds, and
 * answers where their bytes go; the caller copies them (output/write-image.ts). A WrittenFormat says what `convert` and
 * `measure` need to know of a format; registry.ts lists them.
 */
import type { ByteSource, ByteTarget } from "../bytes/byte-source.ts";
import type { Extent } from "../bytes/extent.ts";
import type { CowAbi } from "./cowfile/layout.ts";

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

/** A file that is being made. */
export interface NewTarget extends ByteTarget {
  /** Makes a range read as zeros, without space. False if the file system cannot. */
  punchHole(offset: number, length: number): boolean;
}

/** What users can choose for a new image; each is for one format. */
export interface WriteOptions {
  /** Of a dm-snapshot store, in bytes. */
  readonly chunkBytes?: number | undefined;
  /** Of a qcow2 file. */
  readonly clusterBytes?: number | undefined;
  /** Of a cowfile. */
  readonly abi?: CowAbi | undefined;
}

/** The base of a new image. */
export interface NewImageBase {
  /** For messages. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Undefined if a layer is converted without its base. */
  readonly source: ByteSource | undefined;
  /** That which its lowest layer stores, if any. */
  readonly fingerprint: number | undefined;
  /** How many blocks of a base that layer says it was made for, if it does. */
  readonly blocks: number | undefined;
  /** If it is one local file: its format, and its name as seen from the new image's folder. */
  readonly file: { readonly format: string; readonly name: string } | undefined;
}

export interface NewImage extends WriteOptions {
  /** Without its folder. */
  readonly fileName: string;
  readonly sizeBytes: number;
  /** Undefined only where the format does not require one. */
  readonly base: NewImageBase | undefined;
  /** The units of the layers that it replaces; none if the contents are compared. */
  readonly replacedUnits: readonly number[];
  readonly signal: AbortSignal | undefined;
}

export interface ImageLayout {
  readonly granularityBytes: number | null;
  /**
   * Makes the writer of an empty file, or of one to be resumed.
   * @param beside opens the second file of formats that have two
   * @param isClone the file has the bytes of the base already
   */
  readonly makeWriter: (target: NewTarget, beside: (suffix: string) => ByteTarget, isClone: boolean) => ImageWriter;
  /**
   * For formats of several files: the suffixes of the files with the data and of the other one, and the contents of the
   * output itself, which comes last.
   */
  readonly several?: { readonly data: string; readonly beside: string; readonly text: string };
  /** What it says of its base, for a base record beside it. */
  readonly identity?: { readonly blocks: number; readonly fingerprint: number };
}

/** A format in which new images are written. */
export interface WrittenFormat<Id extends string = string> {
  /** As in JSON; that of its LayerFormat, if it is read as a layer. */
  readonly id: Id;
  /** `none`: always a whole image; `required`: it holds changes to a base, and has the base's size. */
  readonly base: "none" | "optional" | "required";
  /** Its images are whole units of this: a layer leaves the rest to its base, a whole image is longer by zeros. */
  readonly sizeUnitBytes: number;
  /** The options that are for this format. */
  readonly options: readonly (keyof WriteOptions)[];
  /** It is the image byte for byte, so a new one may begin as a clone of the base. */
  readonly isPlain?: boolean;
  /** @throws CowError `usage` for options that are not possible, `unsuitable` for images or bases that are not */
  layout(image: NewImage): ImageLayout | Promise<ImageLayout>;
}
