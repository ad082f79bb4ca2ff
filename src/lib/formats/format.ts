/**
 * Owns the interfaces that a format implements: layers, checks and more. Operations only use these, so every format
 * works with them. See formats/registry.ts for the list of formats.
 */
import type { ByteSource, ByteTarget, Place } from "../bytes/byte-source.ts";
import type { Extent, ExtentList } from "../bytes/extent.ts";
import type { Progress } from "../context.ts";
import type { Loss } from "./losses.ts";

/** `error`: data is or may be at risk; `warning`: something tools disagree about; `note`: worth knowing, harmless. */
export type Severity = "error" | "warning" | "note";

/** One inconsistency. Offsets in bytes of the file. */
export interface Problem {
  /** Stable id from the format's problem table. */
  readonly id: string;
  readonly severity: Severity;
  /** Would `repair` fix it? */
  readonly fixable: boolean;
  /** Where in the file. */
  readonly offset: number;
  readonly length: number;
  /** One sentence, lower case, no full stop, without the file's name. */
  readonly message: string;
}

/** A source composed of others, which says where each part is, so that copies need no buffer. */
export interface PlacedSource extends ByteSource {
  places(from: number, to: number): Iterable<Place>;
  /** The base and the layers that it consists of, if it does. */
  readonly layered?: Layered | undefined;
}

/** The parts of an image of several layers. */
export interface Layered {
  readonly base: ByteSource | undefined;
  /** Bottom to top. */
  readonly layers: readonly Layer[];
}

/** Warnings for readers. */
export interface Remarks {
  /** Each a sentence, lower case, no full stop, without the file's name. Absent if there are none. */
  readonly warnings?: readonly string[] | undefined;
}

/** One layer of a stack: which parts of the image are allocated, and where. Offsets in bytes of the image. */
export interface Layer extends Remarks {
  readonly formatId: string;
  readonly name: string;
  /** The unit of allocation. */
  readonly granularityBytes: number;
  readonly virtualSizeBytes: number;
  /** The allocated parts of `[from, to)`, ascending and joined. */
  extents(from: number, to: number): Iterable<Extent>;
  /** Is certainly nothing in the range allocated? Quick enough to ask at every read. */
  isClearOf?(from: number, to: number): boolean;
  /** The same parts, each with its place; cut to `[from, to)`, split where they are not contiguous. */
  places(from: number, to: number): Iterable<Place>;
  /** Where an offset of the image is in its file, or would be. Absent where that depends on what was written. */
  locate?(offset: number): number;
  /** The identity of the base that it was made for. */
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

/** The identity of a layer's base, from the layer's own metadata. Undefined values are not compared. */
export interface BaseIdentity {
  /** A bigint for counts above 2^53-1, which no real base reaches. Undefined if the format stores no size. */
  readonly blocks: number | bigint | undefined;
  readonly blockBytes: number;
  /** Unsigned 32-bit fingerprint, or undefined if the format stores none. */
  readonly fingerprint: number | undefined;
  /** The layer's own size in blocks, where it was resized and has another one than its base: a base of that size fits, too. */
  readonly resizedBlocks?: number | undefined;
}

/** Does a layer fit a base of that size? */
export function fitsSize({ blocks, resizedBlocks }: BaseIdentity, actualBlocks: number): boolean {
  return blocks === undefined || blocks === actualBlocks || resizedBlocks === actualBlocks;
}

/** Other files of a part of a stack, by the names in its own file. */
export interface Companions {
  /**
   * Opens a file whose name is relative to the part's own file, locked like that one; its opener closes it.
   * @throws CowError `not-found`, `locked`, `permission`, `usage`, `io`
   */
  open(path: string): ByteSource;
}

/** What a part of a stack consists of besides its own file. All may be missing if a file is inspected by itself. */
export interface PartOptions {
  /** The backing, for formats that store no size. */
  readonly backing?: ByteSource | undefined;
  /** Opens files that the file names; without it such names are never followed. */
  readonly companions?: Companions | undefined;
  /** The user's settings, by the names in the format's `settings`; a flag has an empty value. */
  readonly settings?: ReadonlyMap<string, string> | undefined;
  /** The further files that the user named, in order. */
  readonly more?: readonly ByteSource[] | undefined;
}

/** How a layer is opened. */
export interface OpenLayerOptions extends PartOptions {
  readonly allowDirty: boolean;
}

/** A setting of a part of a stack: `NAME=VALUE`, or `NAME` alone for a flag. */
export interface Setting {
  readonly name: string;
  /** How the manual writes its value; undefined for a flag. */
  readonly value: string | undefined;
  /** One phrase for the manual. */
  readonly meaning: string;
}

/** Watches and stops a check or a repair, and has the parts of the file. */
export interface SurveyHooks extends PartOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Allocated space of the file, for the progress total; 0 if unknown. */
  readonly allocatedBytes?: number;
  /** Opens the file beside this one with that suffix; undefined if there is none. */
  readonly companion?: (suffix: string) => ByteSource | undefined;
  /** The boot id (16 bytes); without it, records of an earlier process are ignored. */
  readonly boot?: Uint8Array;
}

export interface CheckOptions extends SurveyHooks {
  /** Makes an empty file for unpacking; its owner closes it. Required for packed files. */
  readonly scratch?: () => ByteTarget;
  /** The base that the user gave for the layer. */
  readonly base?: ByteSource | undefined;
}

/** What the head of a layer says: it was closed in order, or not. */
export type CleanState = "clean" | "dirty";

/** What `check` found. */
export interface CheckReport {
  /** The state in the head; undefined if the format has none. */
  readonly state: CleanState | undefined;
  /** Ascending by kind, then by place; may be long, made while it is read. */
  readonly problems: Iterable<Problem>;
  readonly worst: ProblemTally;
}

/** Counts of a list of problems. */
export interface ProblemTally {
  readonly fixable: number;
  readonly unfixable: number;
  readonly notes: number;
}

/** Unallocated blocks of zeros that have space in the file. */
export interface Suspect extends Extent {
  /**
   * `alone`: nothing else explains why the file system gave it space, so zeros were written here;
   * `shared`: it shares its allocation unit with something that does.
   */
  readonly evidence: "alone" | "shared";
}

export interface RepairOptions extends CheckOptions {
  readonly dryRun: boolean;
  /** Repair a file that is marked clean, too. */
  readonly force: boolean;
  /** Clear the bitmap bits of blocks whose data is beyond the end of the file. */
  readonly dropLost: boolean;
  /** Creates the file for blocks that cannot be trusted, and must not be lost; not needed for a dry run. */
  readonly aside?: () => AsideFile;
}

/** A new file beside the repaired one: it appears whole, under a name that was free. */
export interface AsideFile {
  readonly target: ByteTarget;
  /** Makes it durable. @returns its name */
  commit(): string;
}

/** What `repair` found and did, or with `dryRun` would do. */
export interface RepairReport {
  readonly stateBefore: CleanState;
  readonly state: CleanState;
  /** False if a clean file was not examined, because `force` was not given. */
  readonly examined: boolean;
  /** Newly allocated parts, in bytes of the image. */
  readonly marked: ExtentList;
  /** Cleared bits of the bitmap, in bytes of the image. */
  readonly cleared: ExtentList;
  /** Allocated parts whose data is lost. */
  readonly lost: ExtentList;
  /**
   * Blocks written by a server that was killed, and not covered by a flush before the machine was restarted. They are
   * not shown; a repair copies them to a file of their own. In bytes of the image.
   */
  readonly setAside: ExtentList;
  /** That file; undefined in a dry run, and without such blocks. */
  readonly setAsideFile: string | undefined;
  /** Unallocated blocks that had data before a killed server had the file: they are left unchanged. */
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

/** One fact about an image; keys are snake_case, byte counts integers. */
export type Fact = string | number | boolean | null | readonly Fact[] | { readonly [fact: string]: Fact };

/** The facts that `info` shows for any format; a format adds its own under snake_case names. */
export interface ImageFacts {
  readonly format: string;
  /** Bytes, or null if the head is unusable, or the format stores no size and there is no backing. */
  readonly virtual_size: number | null;
  readonly [fact: string]: Fact;
}

/** A format of layers on disk. */
export interface LayerFormat {
  /** Stable id, as in JSON: `cowfile`. */
  readonly id: string;
  /** Its name for people. */
  readonly title: string;
  /** The settings of a part of this format. */
  readonly settings?: readonly Setting[];
  /** Does a part of this format consist of any number of files that the user names? */
  readonly takesMoreFiles?: boolean;
  /** Its own file names others: it is opened only if the user named the format, whatever `matches` says. */
  readonly mustBeNamed?: boolean;
  /** Its mark is on disks that are images themselves: such a file may be a base, and is replaced like one. */
  readonly isOnDisk?: boolean;
  /** It stores size and fingerprint of its base: base records, merge journals and undo files go with it. */
  readonly recordsBase?: boolean;
  /** A merge in place empties the layer; of others it stays as it is. */
  readonly isEmptiedByMerge?: boolean;
  /** Does a file that begins with these bytes (up to 4096) claim to be of this format? */
  matches(head: Uint8Array): boolean;
  /** May it be packed, and of this format, although its beginning only says that it is packed? */
  mayBePacked?(head: Uint8Array): boolean;
  /**
   * Opens it for reading as it is, as a layer over its backing.
   * @throws CowError `bad-head`, `unsupported`, `dirty`, `packed`, `truncated`, `damaged`, `usage` (a setting)
   */
  openLayer(source: ByteSource, options: OpenLayerOptions): Layer;
  /**
   * Opens it as a whole image, for formats that can be one by themselves: the bottom of a stack. `backing` is never given.
   * @throws CowError as openLayer
   */
  openImage?(source: ByteSource, options: OpenLayerOptions): PlacedSource & Remarks;
  /**
   * Its facts and problems, without reading the data area. Accepts packed and damaged files as far as they can be read.
   */
  describe(
    source: ByteSource,
    hooks: SurveyHooks,
  ): Promise<{ readonly facts: ImageFacts; readonly problems: Iterable<Problem> }>;
  /**
   * The source to read the image from: the file itself, or for a packed one a view of the unpacked file.
   * @param scratch makes an empty file for formats that have to be unpacked first; its owner closes it
   * @param signal stops the unpacking
   */
  readable(source: ByteSource, scratch: () => ByteTarget, signal?: AbortSignal): Promise<ByteSource>;
  /** Is it packed in a form in which no byte is where the image has it? */
  isCompressed?(source: ByteSource): boolean;
  /** What a new image of another format does not keep of such a file. */
  losses?(source: ByteSource): Iterable<Loss>;
  /** The identity of its base, in any state of the file. */
  identify(source: ByteSource, hooks: SurveyHooks): Promise<BaseIdentity>;
  /** How a given base differs from that identity. */
  judgeBase(source: ByteSource, base: ByteSource, hooks: SurveyHooks): Promise<readonly Problem[]>;
  /** Reports every inconsistency; changes nothing. */
  check(source: ByteSource, options: CheckOptions): Promise<CheckReport>;
  /**
   * Repairs what can be repaired; `target` is only read if `dryRun`.
   * @throws CowError `unsupported` if the format has nothing that could be repaired
   */
  repair(target: ByteTarget, options: RepairOptions): Promise<RepairReport>;
}
