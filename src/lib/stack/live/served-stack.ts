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
import { type AssembledImage, assembleImage, type ImageParts } from "./assemble.ts";
import { type CheckpointLevel, checkpointLevels } from "./checkpoint-level.ts";
import { FileGuard } from "./file-guard.ts";
import type { FoundState } from "./found-state.ts";
import { Gate } from "./gate.ts";
import { takeUpLeft } from "./left-frozen.ts";
import { type LeftLayer, openLeft } from "./left-layer.ts";
import { WritableCowfile } from "./open-cowfile.ts";
import { type OpenTopOptions, openTop } from "./open-top.ts";
import type { PassedImage } from "./passed-image.ts";
import { type LowerStack, LowerStacks } from "./shared-lower.ts";
import type { SpaceUsage } from "./space-usage.ts";
import { imagePartsOf, PartsPassing, type StackParts } from "./stack-parts.ts";
import { type Top, throwAway } from "./top.ts";

export interface ServeStackOptions extends OpenTopOptions {
  readonly access: Access;
  /** Where what is below the written layer is open, or will be; default: it is shared with no other stack. */
  readonly lowers?: LowerStacks | undefined;
  /** The most bytes that the written layer may allocate. */
  readonly quotaBytes?: number | undefined;
}

/** With what parts are opened, now and later. */
type OpenOptions = ServeStackOptions & { readonly lowers: LowerStacks };

interface OpenedStack extends Omit<StackParts, "frozen"> {
  /** The stack file of a writable stack that one names. */
  readonly held: HeldStackFile | undefined;
}

export class ServedStack {
  readonly name: string;
  readonly access: Access;
  readonly sizeBytes: number;
  /** How the writable cowfile was found; undefined if there is none. */
  readonly found: FoundState | undefined;
  /** Its connections pass through it; its epoch is that of the parts. */
  readonly gate = new Gate();
  /** The stack file of a writable stack that one names. */
  readonly held: HeldStackFile | undefined;
  readonly #storage: Storage;
  readonly #options: OpenOptions;
  /** Ends when the layer that was the top until the last checkpoint is one of the lower ones. Never rejects. */
  settling: Promise<void> = Promise.resolve();
  /** Ends when former parts are let go of: not before clients have read what they were sent of them. Never rejects. */
  retiring: Promise<void> = Promise.resolve();
  #parts: StackParts;
  readonly #passing: PartsPassing;
  /** Of a layer that is not written. */
  #countedBlocks: number | undefined;
  #guard: FileGuard;
  /** Of files that are not written any more. */
  #loss: CowError | undefined;

  private constructor(
    storage: Storage,
    options: OpenOptions,
    { name, access, found, held, ...parts }: Pick<ServedStack, "name" | "access" | "found"> & OpenedStack,
  ) {
    this.name = name;
    this.access = access;
    this.found = found;
    this.held = held;
    this.#storage = storage;
    this.#options = options;
    this.#passing = new PartsPassing(name);
    this.#parts = { ...parts, frozen: undefined };
    const { lower, left, top } = parts;
    this.sizeBytes = top?.sizeBytes ?? left?.kept.layer.virtualSizeBytes ?? lower.stack.device.sizeBytes;
    this.#guard = this.#newGuard();
  }

  #newGuard(): FileGuard {
    const { left, frozen, top } = this.#parts;
    const written = top?.written ?? [];
    const [layer] = written;
    const own = [left?.device, frozen?.top.device, layer?.device].filter((device) => device !== undefined);
    return new FileGuard(this.#storage, own, written);
  }

  get parts(): StackParts {
    return this.#parts;
  }

  get checkpoints(): readonly CheckpointLevel[] {
    return this.#parts.checkpoints;
  }

  /** Changes meanwhile to its own files; those of the lower layers are looked at by LowerStacks. */
  get guard(): Pick<FileGuard, "look" | "loss"> {
    return { look: () => this.#guard.look(), loss: this.#guard.loss ?? this.#loss };
  }

  /** How many layers it has. */
  get depth(): number {
    const { lower, left, frozen, top } = this.#parts;
    return lower.layers.length + (left ? 1 : 0) + (frozen ? 1 : 0) + (top ? 1 : 0);
  }

  /** The written file; undefined if there is none, or it has no name. */
  get writtenPath(): string | undefined {
    return this.#parts.top?.written[0]?.device.name;
  }

  /** Tells the file system that holds the written file from others. */
  get fileSystem(): string | undefined {
    return this.#parts.top?.written[0]?.device.file?.identity.split(":")[0];
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
    const all = { ...options, lowers };
    const facts = { name, access, checkpoints: checkpointLevels(spec) };
    const isWritable = access === "writable";
    if (isWritable && spec.layers.length === 0)
      throw new CowError("usage", "a base alone is never written", { file: name });
    if (isWritable) refuseFrozen(written);
    const held = isWritable && spec.stackFile ? HeldStackFile.hold(storage, spec.stackFile, options) : undefined;
    let left: LeftLayer | undefined;
    let lower: LowerStack | undefined;
    try {
      if (held) for (const part of spec.below.layers) takeUpLeft(storage, part, options);
      left = isWritable ? undefined : await openLeft(storage, spec, lowers, options);
      lower = left?.lower ?? (await lowers.acquire(isWritable ? spec.below : spec, options));
      if (isWritable) {
        const top = await openTop(storage, written, lower, options);
        top.usage.setQuota(options.quotaBytes);
        return new ServedStack(storage, all, { ...facts, lower, left, top, held, found: top.found });
      }
      const { sizeBytes } = lower.stack.device;
      const top =
        access === "ephemeral" ? throwAway(storage, name, left?.kept.layer.virtualSizeBytes ?? sizeBytes) : undefined;
      top?.usage.setQuota(options.quotaBytes);
      return new ServedStack(storage, all, { ...facts, lower, left, top, held, found: left && "recovered" });
    } catch (error) {
      left?.device.close();
      lower?.release();
      held?.close();
      throw error;
    }
  }

  /** The checkpoints that can be read beside it: those below what is written. */
  get readable(): readonly CheckpointLevel[] {
    return this.checkpoints.filter(({ level }) => level <= this.#parts.lower.layers.length);
  }

  /** The disk as it was at one of `readable`, over the same open files. The caller closes it. */
  at(checkpoint: CheckpointLevel): ServedStack {
    return new ServedStack(this.#storage, this.#options, {
      name: `${this.name}@${checkpoint.name}`,
      access: "read-only",
      found: undefined,
      checkpoints: this.checkpoints.filter(({ level }) => level < checkpoint.level),
      lower: this.#parts.lower.at(checkpoint.level),
      left: undefined,
      top: undefined,
      held: undefined,
    });
  }

  /** What the written layer has allocated, and its quota; undefined if nothing is written. */
  get usage(): SpaceUsage | undefined {
    return this.#parts.top?.usage;
  }

  /** Blocks that the top layer has allocated; 0 for a layer that is only read and no cowfile. */
  get blocksAllocated(): number {
    const { lower, left, top } = this.#parts;
    if (top) return top.usage.allocatedUnits;
    this.#countedBlocks ??= (left?.kept ?? lower.layers.at(-1))?.countAllocated?.() ?? 0;
    return this.#countedBlocks;
  }

  /**
   * Opens the cowfile that is to be the next top: ready for its first write, with the quota of the present one.
   * @throws CowError as WritableCowfile.open
   */
  openNext(path: string): Top {
    const device = this.#storage.open(path, { writable: true, lock: "exclusive" });
    let top: WritableCowfile | undefined;
    try {
      top = WritableCowfile.open(this.#storage, path, device, this.#options);
      top.makeReady();
      top.usage.setQuota(this.usage?.quotaBytes);
      return top;
    } catch (error) {
      if (top) top.abandon();
      else device.close();
      throw error;
    }
  }

  /** Opens what will be below the top; the user releases it, or has it in new parts. @throws CowError as LowerStacks.acquire */
  acquire(below: StackSpec): Promise<LowerStack> {
    return this.#options.lowers.acquire(below, this.#options);
  }

  /** This thread's own image. */
  image(): AssembledImage {
    return assembleImage(this.imageParts());
  }

  /** What this thread's image is made of now: for replaceParts(). */
  imageParts(): ImageParts {
    return imagePartsOf(this.name, this.#parts);
  }

  /**
   * Passed to another thread; undefined if a part has no descriptor. It maps files: call it once for each epoch.
   * @param parts those that it will have from an epoch on, to be told before switchTo(); default: as it is now
   */
  passed(parts: StackParts = this.#parts, epoch = this.gate.epoch): PassedImage | undefined {
    return this.#passing.pass(parts, epoch);
  }

  /**
   * Takes other parts: the one way in which the parts of a running stack are replaced. Its threads have been told what
   * passed() says of them, and either its gate is shut and empty, or the new parts have the same content. Files of the old
   * parts stay open: see retire().
   */
  switchTo(parts: StackParts): void {
    this.#loss ??= this.#guard.loss;
    this.#parts = parts;
    this.#guard = this.#newGuard();
    this.gate.advance();
  }

  /**
   * Lets go of former parts, once no connection refers to them: what is below the top, a frozen layer, mappings. A top that is
   * neither written nor frozen any more is the caller's to close, before or after. `retiring` ends when that is done.
   */
  retire(parts: StackParts): void {
    const gone = this.#letGo(parts, this.gate.epoch).catch(() => undefined);
    this.retiring = Promise.all([this.retiring, gone]).then(() => undefined);
  }

  async #letGo({ lower, frozen, top }: StackParts, epoch: number): Promise<void> {
    await this.gate.past(epoch);
    const now = this.#parts;
    const isUsed = (old: Top): boolean => old === now.top || old === now.frozen?.top;
    for (const old of [top, frozen?.top]) if (old && !isUsed(old)) this.#passing.forget(old);
    if (frozen && !isUsed(frozen.top)) frozen.top.abandon();
    if (lower !== now.lower) lower.release();
  }

  /**
   * Makes everything durable, marks the cowfile clean and closes all files. No thread uses the stack any more.
   *
   * @throws CowError where something could not be made durable; the cowfile stays dirty then
   */
  close(): void {
    const { frozen, top } = this.#parts;
    this.#passing.close();
    try {
      if (frozen?.layer.isSettled) frozen.top.abandon();
      else frozen?.top.close();
      top?.close();
    } finally {
      this.#closeReadOnly();
      this.held?.tryRemoveGone(this.#options.onNotice);
      this.held?.close();
    }
  }

  #closeReadOnly(): void {
    this.#parts.left?.device.close();
    this.#parts.lower.release();
  }

  /**
   * Writes everything that flushes covered into the cowfile itself, for readers without its journal.
   *
   * @throws CowError as flush() does
   */
  checkpoint(): void {
    this.#parts.top?.checkpoint?.();
  }

  /** Closes all files as a crash would leave them: the next start takes answered writes from the journal. */
  abandon(): void {
    this.#passing.close();
    this.#parts.frozen?.top.abandon();
    this.#parts.top?.abandon();
    this.#closeReadOnly();
    this.held?.close();
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
