/**
 * Owns the interfaces that a format implements: what a layer is, what a check finds. Operations are written against
 * these, so that they gain every format. See formats/registry.ts for the list of formats.
 */
import type { ByteSource, ByteTarget } from "../bytes/byte-source.ts";
import type { Extent, ExtentList } from "../bytes/extent.ts";
import type { Progress } from "../context.ts";

/** `error`: data is or may be at risk; `warning`: something tools disagree about; `note`: worth knowing, harmless. */
export type Severity = "error" | "warning" | "note";

/** One inconsistency, as found. Offsets in bytes of the file named. */
export interface Problem {
  /** Stable id from the format's problem table. */
  readonly id: string;
  readonly severity: Severity;
  /** Would `repair` put it right? */
  readonly fixable: boolean;
  /** Where in the file. */
  readonly offset: number;
  readonly length: number;
  /** One sentence, lower case, no full stop, without the file's name. */
  readonly message: string;
}

/** A part of an image, and where its bytes lie. */
export interface Place extends Extent {
  readonly source: ByteSource;
  /** Offset of its first byte in `source`. What lies beyond the end of the source reads as zeros. */
  readonly at: number;
  /** What the format's own tables say is there; undefined where only the holes of the source tell. */
  readonly kind?: "data" | "zero" | "compressed" | undefined;
}

/** A source that is put together from others, and tells where each part lies, so that copies need no buffer. */
export interface PlacedSource extends ByteSource {
  /** The parts of `[from, to)` that may hold something other than zeros, ascending. */
  places(from: number, to: number): Iterable<Place>;
}

/** What whoever reads through something should know of it. */
export interface Remarks {
  /** Each a sentence, lower case, no full stop, without the file's name. Absent if there is nothing to be said. */
  readonly warnings?: readonly string[] | undefined;
}

/** A source that takes long to read, and can make a part of it ready on other threads. */
export interface PreparingSource extends ByteSource {
  /** So much can be ready at a time. */
  readonly preparesBytes: number;
  /** Makes a part ready, as far as that goes: reading it is then cheap. Fails never; reading tells what is wrong. */
  prepare(offsetBytes: number, length: number): Promise<void>;
}

/** One layer of a stack: which parts of the image it holds, and where. Offsets in bytes of the image. */
export interface Layer extends Remarks {
  readonly formatId: string;
  readonly name: string;
  /** The unit in which it holds data. */
  readonly granularityBytes: number;
  readonly virtualSizeBytes: number;
  /** The parts of `[from, to)` that it holds, ascending and joined. */
  extents(from: number, to: number): Iterable<Extent>;
  /** Is it certain that none of that is held? A quick question, for whoever would ask it at every read. */
  isClearOf?(from: number, to: number): boolean;
  /** The same parts, each with where its bytes lie; cut to `[from, to)`, split where they don't lie in a row. */
  places(from: number, to: number): Iterable<Place>;
  /** What it says of the base it was made for. */
  readonly base: BaseIdentity;
}

/** A layer that is looked up at every request: run by run, without an object for each look. */
export interface SearchableLayer extends Layer {
  /** Where the run that findRun() found begins in the layer's file; NOT_ALLOCATED if the backing shows there. */
  readonly foundAt: number;
  /** Finds the run that begins at an offset: allocated and in one piece, or not allocated. @returns its end, at most `end` */
  findRun(offsetBytes: number, endBytes: number): number;
}

/** No place in any file. */
export const NOT_ALLOCATED = -1;

/** What a layer's own metadata says of the base it belongs to. What is undefined is never compared. */
export interface BaseIdentity {
  /** A bigint where a number would be rounded: no base has so many. Undefined where the format stores no size. */
  readonly blocks: number | bigint | undefined;
  readonly blockBytes: number;
  /** Unsigned 32-bit fingerprint, or undefined where the format stores none. */
  readonly fingerprint: number | undefined;
}

/** Other files that a part of a stack consists of, by the names that stand in its own file. */
export interface Companions {
  /**
   * Opens a file whose name is relative to the part's own file, locked like that one; whoever opened that closes it.
   * @throws CowError `not-found`, `locked`, `permission`, `usage`, `io`
   */
  open(path: string): ByteSource;
  /** The same for writing; only where the part itself is open for writing. */
  openTarget?(path: string): ByteTarget;
}

/** What a part of a stack consists of besides its own file. Every one may be missing where a file is looked at by itself. */
export interface PartOptions {
  /** What lies beneath, for formats that store no size. */
  readonly below?: ByteSource | undefined;
  /** Opens what the file names; without it such names are never followed. */
  readonly companions?: Companions | undefined;
  /** What the user said of it, by the names in the format's `settings`; a flag has an empty value. */
  readonly settings?: ReadonlyMap<string, string> | undefined;
  /** The further files that the user named, in order. */
  readonly more?: readonly ByteSource[] | undefined;
}

export interface OpenLayerOptions extends PartOptions {
  readonly allowDirty: boolean;
}

/** Something that a user can say of a part of a stack: `NAME=VALUE`, or `NAME` alone if it is a flag. */
export interface Setting {
  readonly name: string;
  /** How the manual writes its value; undefined for a flag. */
  readonly value: string | undefined;
  /** One phrase for the manual. */
  readonly meaning: string;
}

/** How a check or a repair is watched and stopped, and what the file consists of. */
export interface SurveyHooks extends PartOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Space the file really takes, for the progress total; 0 if unknown. */
  readonly allocatedBytes?: number;
  /** Opens the file beside this one, under its name with that suffix; undefined if there is none. */
  readonly companion?: (suffix: string) => ByteSource | undefined;
  /** What tells one start of the machine from another (16 bytes); without it, notes of an earlier process count for nothing. */
  readonly boot?: Uint8Array;
}

export interface CheckOptions extends SurveyHooks {
  /** Makes an empty file for what has to be unpacked to be checked; its owner closes it. Required for packed files. */
  readonly scratch?: () => ByteTarget;
  /** The base the layer is said to belong to, if one was given. */
  readonly base?: ByteSource | undefined;
}

export type CleanState = "clean" | "dirty";

export interface CheckReport {
  /** As the file is marked; undefined where its format has no such mark. */
  readonly state: CleanState | undefined;
  /** Ascending by kind, then by place; may be long, is made while it is read. */
  readonly problems: Iterable<Problem>;
  readonly worst: ProblemTally;
}

/** What a list of problems amounts to. */
export interface ProblemTally {
  readonly fixable: number;
  readonly unfixable: number;
  readonly notes: number;
}

/** A part of the image that is allocated and zero, but not marked. */
export interface Suspect extends Extent {
  /**
   * `alone`: nothing else explains why the storage below allocated it, so zeros were written here;
   * `shared`: it shares its allocation unit with something that does.
   */
  readonly evidence: "alone" | "shared";
}

export interface RepairOptions extends CheckOptions {
  readonly dryRun: boolean;
  /** Repair a file that is marked clean, too. */
  readonly force: boolean;
  /** Clear the marks of blocks whose data is beyond the end of the file. */
  readonly dropLost: boolean;
  /** Begins the file that blocks go to which cannot be trusted, and must not be lost; not needed for a dry run. */
  readonly aside?: () => AsideFile;
}

/** A new file beside the one that is repaired: it appears whole, under a name that was free. */
export interface AsideFile {
  readonly target: ByteTarget;
  /** Makes it durable. @returns its name */
  commit(): string;
}

export interface RepairReport {
  readonly stateBefore: CleanState;
  readonly state: CleanState;
  /** False where a clean file was left alone because nobody asked for more (`force`). */
  readonly examined: boolean;
  /** Parts newly marked, in bytes of the image. */
  readonly marked: ExtentList;
  /** Marks cleared, in bytes of the image. */
  readonly cleared: ExtentList;
  /** Marks left whose data is gone. */
  readonly lost: ExtentList;
  /**
   * Blocks written by a server that was killed, which no flush covered before the machine was started anew. They are not
   * shown; a repair copies them to a file of their own. In bytes of the image.
   */
  readonly setAside: ExtentList;
  /** That file; undefined in a dry run, and where there are no such blocks. */
  readonly setAsideFile: string | undefined;
  /** Blocks that held data without a mark before a killed server had the file: they are left as they are. */
  readonly unmarkedBlocks: number;
  /** The journal of a killed server was used, and is not needed once the file is clean. */
  readonly isJournalSpent: boolean;
  readonly suspects: Iterable<Suspect>;
  readonly suspectBlocks: number;
  readonly blocksUsed: number;
  readonly problems: Iterable<Problem>;
  readonly worst: ProblemTally;
  /** Was anything written (or, in a dry run, would it be)? */
  readonly changed: boolean;
}

/** One thing that is known of an image; keys are snake_case, byte counts integers. */
export type Fact = string | number | boolean | null | readonly Fact[] | { readonly [fact: string]: Fact };

/** What `info` shows of any format; a format adds facts of its own under snake_case names. */
export interface ImageFacts {
  readonly format: string;
  /** Bytes, or null where the head is beyond use, or the format stores none and nothing lies beneath. */
  readonly virtual_size: number | null;
  readonly [fact: string]: Fact;
}

/** A format of layers on disk. */
export interface LayerFormat {
  /** Stable id, as in JSON: `cowfile`. */
  readonly id: string;
  /** What a person calls it. */
  readonly title: string;
  /** What a user can say of a part of this format. */
  readonly settings?: readonly Setting[];
  /** Does a part of this format consist of any number of files that the user names? */
  readonly takesMoreFiles?: boolean;
  /** Its own file names others: it is opened only where the user named the format, whatever `matches` says. */
  readonly mustBeNamed?: boolean;
  /** Does a file that begins with these bytes (up to 4096) claim to be of this format? */
  matches(head: Uint8Array): boolean;
  /**
   * Opens it for reading as it stands, as a layer over what lies below it.
   * @throws CowError `bad-head`, `unsupported`, `dirty`, `packed`, `truncated`, `damaged`, `usage` (a setting)
   */
  openLayer(source: ByteSource, options: OpenLayerOptions): Layer;
  /**
   * Opens it as a whole image, for formats that can be one by themselves: the bottom of a stack. `below` is never given.
   * @throws CowError as openLayer
   */
  openImage?(source: ByteSource, options: OpenLayerOptions): PlacedSource & Remarks;
  /** What it is and holds, without looking into the data area. Takes packed and damaged files as far as they can be read. */
  describe(
    source: ByteSource,
    hooks: SurveyHooks,
  ): Promise<{ readonly facts: ImageFacts; readonly problems: Iterable<Problem> }>;
  /**
   * What to read the image from: the file itself, or where it is packed, a view of what it was made from.
   * @param scratch makes an empty file for formats that have to be unpacked first; its owner closes it
   * @param signal stops the unpacking
   */
  readable(source: ByteSource, scratch: () => ByteTarget, signal?: AbortSignal): Promise<ByteSource>;
  /** What it says of the base it was made for, whatever state it is in. */
  identify(source: ByteSource, hooks: SurveyHooks): Promise<BaseIdentity>;
  /** How a given base differs from what the file says of its base. */
  judgeBase(source: ByteSource, base: ByteSource, hooks: SurveyHooks): Promise<readonly Problem[]>;
  /** Every inconsistency there is; changes nothing. */
  check(source: ByteSource, options: CheckOptions): Promise<CheckReport>;
  /**
   * Puts right what can be; `target` must be a ByteTarget unless `dryRun`.
   * @throws CowError `unsupported` where the format stores nothing that could be put right
   */
  repair(target: ByteSource | ByteTarget, options: RepairOptions): Promise<RepairReport>;
}
