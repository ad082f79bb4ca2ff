/**
 * Owns a storage on which every operation, of files and of devices, is numbered and put before a stepper: he lets it be,
 * lets others run before and after it, or makes it fail, after a part of a write was done if he likes. Counts what is open.
 * Works on any storage; knows no formats.
 */
import type {
  BlockDevice,
  CreateOptions,
  Extent,
  FileFacts,
  OpenOptions,
  PendingFile,
  RemoveOptions,
  RenameOptions,
  Storage,
} from "../../../src/lib/index.ts";

export type StepKind =
  | "facts"
  | "open"
  | "create"
  | "make"
  | "scratch"
  | "read"
  | "extents"
  | "write"
  | "punch"
  | "resize"
  | "flush"
  | "sync-name"
  | "commit"
  | "remove"
  | "rename"
  | "read-small"
  | "close";

export interface Step {
  readonly kind: StepKind;
  readonly path: string;
  /** Of devices; else 0. */
  readonly offset: number;
  readonly length: number;
  /** The file has not got its name yet. */
  readonly isUnfinished?: true;
}

/** How a step fails: at once, or after some bytes of a write. A hole that cannot be punched is no failure. */
export type Fate = { readonly error: Error; readonly doneBytes: number } | "cannot";

export interface Stepper {
  /** Steps are numbered from 0. Returns how it fails, if it does. */
  before(step: Step, index: number): Fate | undefined;
  /** It was done. */
  after?(step: Step): void;
}

export class SteppedStorage implements Storage {
  readonly #inner: Storage;
  readonly #stepper: Stepper;
  readonly stateDirectories: readonly string[];
  /** How many steps there were. */
  count = 0;
  /** How many devices are open. */
  openCount = 0;
  /** Steps that were made to fail. */
  readonly failed: Step[] = [];

  constructor(inner: Storage, stepper: Stepper) {
    this.#inner = inner;
    this.#stepper = stepper;
    this.stateDirectories = inner.stateDirectories;
  }

  /** @returns false where it cannot be done; throws where it fails, `partly` having done what was still to be done */
  step(step: Step, work: () => void, partly?: (doneBytes: number) => void): boolean {
    const fate = this.#stepper.before(step, this.count++);
    if (fate === "cannot") return false;
    if (fate) {
      this.failed.push(step);
      if (fate.doneBytes > 0) partly?.(Math.min(step.length, fate.doneBytes));
      throw fate.error;
    }
    work();
    this.#stepper.after?.(step);
    return true;
  }

  #file<Result>(kind: StepKind, path: string, work: () => Result): Result {
    let result: Result | undefined;
    this.step({ kind, path, offset: 0, length: 0 }, () => {
      result = work();
    });
    return result as Result;
  }

  #watch(device: BlockDevice, path: string, isUnfinished = false): SteppedDevice {
    this.openCount++;
    return new SteppedDevice(device, this, isUnfinished ? { path, isUnfinished } : { path });
  }

  facts(path: string, options?: { readonly own?: boolean }): FileFacts | undefined {
    return this.#file("facts", path, () => this.#inner.facts(path, options));
  }

  realPath(path: string): string {
    return this.#inner.realPath(path);
  }

  open(path: string, options?: OpenOptions): BlockDevice {
    return this.#watch(
      this.#file("open", path, () => this.#inner.open(path, options)),
      path,
    );
  }

  make(path: string): BlockDevice {
    return this.#watch(
      this.#file("make", path, () => this.#inner.make(path)),
      path,
    );
  }

  create(path: string, options?: CreateOptions): PendingFile {
    const isKept = options?.held ?? false;
    const pending = this.#file("create", path, () => this.#inner.create(path, options));
    const device = this.#watch(pending.device, path, true);
    let isOpen = true;
    const closed = (): void => {
      if (isOpen) this.openCount--;
      isOpen = false;
    };
    return {
      device,
      commit: (options) => {
        device.flush();
        this.#file("commit", path, () => pending.commit(options));
        if (!isKept) closed();
      },
      prepare: (options) => {
        device.flush();
        pending.prepare(options);
      },
      rename: (options) => {
        this.#file("commit", path, () => pending.rename(options));
        if (!isKept) closed();
      },
      sync: () => this.#file("flush", path, () => pending.sync()),
      abandon: () => {
        pending.abandon();
        closed();
      },
    };
  }

  makeDirectory(path: string): void {
    this.#inner.makeDirectory(path);
  }

  scratch(name: string): BlockDevice {
    return this.#watch(
      this.#file("scratch", name, () => this.#inner.scratch(name)),
      name,
    );
  }

  remove(path: string, options?: RemoveOptions): void {
    this.#file("remove", path, () => this.#inner.remove(path, options));
  }

  rename(from: string, to: string, options: RenameOptions): void {
    this.#file("rename", to, () => this.#inner.rename(from, to, options));
  }

  readSmall(path: string, limitBytes: number): Uint8Array | undefined {
    return this.#file("read-small", path, () => this.#inner.readSmall(path, limitBytes));
  }

  list(directory: string): readonly string[] {
    return this.#inner.list(directory);
  }

  freeBytes(path: string): number | undefined {
    return this.#inner.freeBytes(path);
  }
}

class SteppedDevice implements BlockDevice {
  readonly #inner: BlockDevice;
  readonly #storage: SteppedStorage;
  readonly #file: Pick<Step, "path" | "isUnfinished">;
  /** None, so that the kernel copies nothing past us. */
  readonly fd = undefined;
  #isOpen = true;

  constructor(inner: BlockDevice, storage: SteppedStorage, file: Pick<Step, "path" | "isUnfinished">) {
    this.#inner = inner;
    this.#storage = storage;
    this.#file = file;
  }

  get name(): string {
    return this.#inner.name;
  }
  get writable(): boolean {
    return this.#inner.writable;
  }
  get sizeBytes(): number {
    return this.#inner.sizeBytes;
  }
  get allocationUnitBytes(): number {
    return this.#inner.allocationUnitBytes;
  }
  get seesHoles(): boolean {
    return this.#inner.seesHoles;
  }

  #step(
    kind: StepKind,
    [offset, length]: readonly [offset: number, length: number],
    work: () => void,
    partly?: (doneBytes: number) => void,
  ): boolean {
    return this.#storage.step({ kind, ...this.#file, offset, length }, work, partly);
  }

  read(target: Uint8Array, offset: number): number {
    let got = 0;
    this.#step("read", [offset, target.length], () => {
      got = this.#inner.read(target, offset);
    });
    return got;
  }

  *dataExtents(from: number, to: number): Generator<Extent> {
    this.#step("extents", [from, to - from], () => undefined);
    yield* this.#inner.dataExtents(from, to);
  }

  write(source: Uint8Array, offset: number): void {
    const partly = (done: number): void => this.#inner.write(source.subarray(0, done), offset);
    this.#step("write", [offset, source.length], () => this.#inner.write(source, offset), partly);
  }

  punchHole(offset: number, length: number): boolean {
    let isDone = false;
    this.#step("punch", [offset, length], () => {
      isDone = this.#inner.punchHole(offset, length);
    });
    return isDone;
  }

  resize(sizeBytes: number): void {
    this.#step("resize", [sizeBytes, 0], () => this.#inner.resize(sizeBytes));
  }

  flush(): void {
    this.#step("flush", [0, 0], () => this.#inner.flush());
  }

  syncName(): void {
    this.#step("sync-name", [0, 0], () => this.#inner.syncName?.());
  }

  close(): void {
    if (this.#isOpen) this.#storage.openCount--;
    this.#isOpen = false;
    this.#inner.close();
  }
}
