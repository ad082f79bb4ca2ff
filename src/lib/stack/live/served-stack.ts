/**
 * Owns an open stack while it is served: its files and locks, the parts in memory that threads share, and its end. The
 * lower layers are read-only, and shared with other stacks; the top is a writable cowfile or store, a layer to be
 * discarded, or none.
 */
import type { Storage } from "../../device/storage.ts";
import { CowError } from "../../errors.ts";
import { frozenAs, isFrozen, type StackPart } from "../part.ts";
import { StackSpec } from "../spec.ts";
import { HeldStackFile } from "../stack-file.ts";
import type { Access } from "./access.ts";
import { assembleImage } from "./assemble.ts";
import { type CheckpointLevel, checkpointLevels } from "./checkpoint-level.ts";
import { FileGuard } from "./file-guard.ts";
import type { FoundState } from "./found-state.ts";
import type { LiveImage } from "./image.ts";
import { lend } from "./kept-layer.ts";
import { type LeftLayer, openLeft } from "./left-layer.ts";
import { type OpenTopOptions, openTop } from "./open-top.ts";
import type { PassedImage } from "./passed-image.ts";
import { type LowerStack, LowerStacks, Mappings, passLayer } from "./shared-lower.ts";
import type { SpaceUsage } from "./space-usage.ts";
import { type Top, throwAway } from "./top.ts";

export interface ServeStackOptions extends OpenTopOptions {
  readonly access: Access;
  /** Where what is below the written layer is open, or will be; default: it is shared with no other stack. */
  readonly lowers?: LowerStacks | undefined;
  /** The most bytes that the written layer may allocate. */
  readonly quotaBytes?: number | undefined;
}

type StackFacts = Pick<ServedStack, "name" | "access" | "found" | "checkpoints">;

interface OpenedStack {
  readonly lower: LowerStack;
  /** A layer that is only read, and not shared. */
  readonly left: LeftLayer | undefined;
  readonly top: Top | undefined;
  /** The stack file of a writable stack that one names. */
  readonly held: HeldStackFile | undefined;
}

export class ServedStack {
  readonly name: string;
  readonly access: Access;
  readonly sizeBytes: number;
  readonly depth: number;
  /** The written file; undefined if there is none, or it has no name. */
  readonly writtenPath: string | undefined;
  /** Tells the file system that holds the written file from others. */
  readonly fileSystem: string | undefined;
  /** How the writable cowfile was found; undefined if there is none. */
  readonly found: FoundState | undefined;
  /** The oldest first. */
  readonly checkpoints: readonly CheckpointLevel[];
  readonly #storage: Storage;
  readonly #lower: LowerStack;
  readonly #left: LeftLayer | undefined;
  readonly #held: HeldStackFile | undefined;
  readonly #top: Top | undefined;
  readonly #mappings = new Mappings();
  /** Of a layer that is not written. */
  #countedBlocks: number | undefined;
  /** Changes meanwhile to its own files; those of the lower layers are looked at by LowerStacks. */
  readonly guard: FileGuard;

  private constructor(
    storage: Storage,
    { name, access, found, checkpoints, lower, left, top, held }: StackFacts & OpenedStack,
  ) {
    this.name = name;
    this.access = access;
    this.found = found;
    this.checkpoints = checkpoints;
    this.#storage = storage;
    this.#lower = lower;
    this.#left = left;
    this.#held = held;
    this.#top = top;
    this.sizeBytes = top?.sizeBytes ?? left?.kept.layer.virtualSizeBytes ?? lower.stack.device.sizeBytes;
    this.depth = lower.layers.length + (left ? 1 : 0) + (top ? 1 : 0);
    const written = top?.written ?? [];
    const [layer] = written;
    this.writtenPath = layer?.device.name;
    this.fileSystem = layer?.device.file?.identity.split(":")[0];
    const own = [...(left ? [left.device] : []), ...(layer ? [layer.device] : [])];
    this.guard = new FileGuard(storage, own, written);
  }

  /**
   * Opens a stack to be served. With access `writable` its top and its stack file are locked exclusively, all other parts
   * shared.
   *
   * @param text `BASE[,LAYER]…`, or that parsed
   * @throws CowError as openStack and WritableCowfile.open do; `usage` for a writable stack without a layer; `unsuitable` for
   *   one whose top is frozen; `unsupported` for a layer of a format that is not written
   */
  static async open(storage: Storage, text: string | StackSpec, options: ServeStackOptions): Promise<ServedStack> {
    const spec = StackSpec.parse(storage, text);
    const { text: name, top: written } = spec;
    const { access, lowers = new LowerStacks(storage) } = options;
    const facts = { name, access, checkpoints: checkpointLevels(spec) };
    const isWritable = access === "writable";
    if (isWritable && spec.layers.length === 0)
      throw new CowError("usage", "a base alone is never written", { file: name });
    if (isWritable) refuseFrozen(written);
    const held = isWritable && spec.stackFile ? HeldStackFile.hold(storage, spec.stackFile, options) : undefined;
    let left: LeftLayer | undefined;
    let lower: LowerStack | undefined;
    try {
      left = isWritable ? undefined : await openLeft(storage, spec, lowers, options);
      lower = left?.lower ?? (await lowers.acquire(isWritable ? spec.below : spec, options));
      if (isWritable) {
        const top = await openTop(storage, written, lower, options);
        top.usage.setQuota(options.quotaBytes);
        return new ServedStack(storage, { ...facts, lower, left, top, held, found: top.found });
      }
      const { sizeBytes } = lower.stack.device;
      const top =
        access === "ephemeral" ? throwAway(storage, name, left?.kept.layer.virtualSizeBytes ?? sizeBytes) : undefined;
      top?.usage.setQuota(options.quotaBytes);
      return new ServedStack(storage, { ...facts, lower, left, top, held, found: left && "recovered" });
    } catch (error) {
      left?.device.close();
      lower?.release();
      held?.close();
      throw error;
    }
  }

  /** The checkpoints that can be read beside it: those below what is written. */
  get readable(): readonly CheckpointLevel[] {
    return this.checkpoints.filter(({ level }) => level <= this.#lower.layers.length);
  }

  /** The disk as it was at one of `readable`, over the same open files. The caller closes it. */
  at(checkpoint: CheckpointLevel): ServedStack {
    return new ServedStack(this.#storage, {
      name: this.nameAt(checkpoint),
      access: "read-only",
      found: undefined,
      checkpoints: this.checkpoints.filter(({ level }) => level < checkpoint.level),
      lower: this.#lower.at(checkpoint.level),
      left: undefined,
      top: undefined,
      held: undefined,
    });
  }

  nameAt({ name }: CheckpointLevel): string {
    return `${this.name}@${name}`;
  }

  /** What the written layer has allocated, and its quota; undefined if nothing is written. */
  get usage(): SpaceUsage | undefined {
    return this.#top?.usage;
  }

  /** Blocks that the top layer has allocated; 0 for a layer that is only read and no cowfile. */
  get blocksAllocated(): number {
    if (this.#top) return this.#top.usage.allocatedUnits;
    this.#countedBlocks ??= (this.#left?.kept ?? this.#lower.layers.at(-1))?.countAllocated?.() ?? 0;
    return this.#countedBlocks;
  }

  /** This thread's own image. */
  image(): LiveImage {
    const { base, files } = this.#lower.stack;
    const layers = this.#lower.layers.map(({ layer }) => layer);
    return assembleImage({
      name: this.name,
      base,
      layers: this.#left ? [...layers, this.#left.kept.layer] : layers,
      checkpoints: this.checkpoints,
      top: this.#top?.writable(),
      files: [...files, ...(this.#left ? [this.#left.device] : []), ...(this.#top ? [this.#top.device] : [])],
    });
  }

  /** Passed to another thread; undefined if a part has no descriptor. Called once: it maps files. */
  passed(): PassedImage | undefined {
    const top = this.#top?.shared;
    if (this.#top && (top?.cow.fd === undefined || (top.journal && top.journal.fd === undefined))) return undefined;
    const lower = this.#lower.passed();
    const left = passLayer(this.#left?.kept, this.#mappings);
    if (!lower || (this.#left && !left)) return undefined;
    return {
      name: this.name,
      lower,
      checkpoints: this.checkpoints,
      left,
      top: top && {
        cow: {
          ...lend(top.cow),
          mapping: this.#mappings.map(top.cow.fd, top.config.dataOffsetBytes + top.config.sizeBytes),
        },
        journal: top.journal && lend(top.journal),
        config: top.config,
      },
    };
  }

  /**
   * Makes everything durable, marks the cowfile clean and closes all files. No thread uses the stack any more.
   *
   * @throws CowError where something could not be made durable; the cowfile stays dirty then
   */
  close(): void {
    this.#mappings.close();
    try {
      this.#top?.close();
    } finally {
      this.#closeReadOnly();
      this.#held?.close();
    }
  }

  #closeReadOnly(): void {
    this.#left?.device.close();
    this.#lower.release();
  }

  /**
   * Writes everything that flushes covered into the cowfile itself, for readers without its journal.
   *
   * @throws CowError as flush() does
   */
  checkpoint(): void {
    this.#top?.checkpoint?.();
  }

  /** Closes all files as a crash would leave them: the next start takes answered writes from the journal. */
  abandon(): void {
    this.#mappings.close();
    this.#top?.abandon();
    this.#closeReadOnly();
    this.#held?.close();
  }
}

/** @throws CowError `unsuitable` */
function refuseFrozen(top: StackPart): void {
  if (!isFrozen(top)) return;
  throw new CowError("unsuitable", `is ${frozenAs(top)}, and is never written`, {
    file: top.path,
    hints: ["--read-only serves it as it is, --ephemeral lets clients write what is gone afterwards"],
  });
}
