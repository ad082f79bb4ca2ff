/**
 * Owns a storage on which something goes wrong: every operation, of files and of devices, is numbered and put before a
 * judge, who lets it be, makes it fail as the system would (after a part of a write was done, if he likes), or lets it
 * take its time. Counts what is open. Works on any storage; knows no formats.
 */

import { atByte, systemError } from "../../src/lib/errors.ts";
import type {
  BlockDevice,
  CreateOptions,
  Extent,
  FileFacts,
  OpenOptions,
  PendingFile,
  RenameOptions,
  Storage,
} from "../../src/lib/index.ts";

export type OperationKind =
  | "facts"
  | "open"
  | "create"
  | "scratch"
  | "read"
  | "extents"
  | "write"
  | "punch"
  | "resize"
  | "flush"
  | "commit"
  | "remove"
  | "rename"
  | "read-small"
  | "close";

export interface Operation {
  readonly kind: OperationKind;
  readonly path: string;
  readonly offset?: number;
  readonly length?: number;
}

export interface Fault {
  readonly errno: "EIO" | "ENOSPC" | "EDQUOT" | "EFBIG" | "EMFILE";
  /** Of a write: how many of its bytes get there before it fails. */
  readonly doneBytes?: number;
}

/** What becomes of an operation; operations are numbered from 0. */
export type Judge = (operation: Operation, index: number) => Fault | undefined;

/** Operations that a full disk can make fail. */
export const TAKES_SPACE: ReadonlySet<OperationKind> = new Set(["create", "scratch", "write", "resize", "commit"]);

/** Waits without letting anything else run, as a device call does that takes its time. */
export function stall(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** What nodeStorage says about a failed operation, so that tests see what people would. */
function failure({ kind, path, offset = 0 }: Operation, errno: string): Error {
  const doing: Partial<Record<OperationKind, string>> = {
    facts: "cannot look at it",
    open: "cannot open",
    create: "cannot create",
    scratch: "cannot create",
    commit: "cannot create",
    read: `cannot read at ${atByte(offset)}`,
    write: `cannot write at ${atByte(offset)}`,
    extents: "cannot look for data",
    punch: "cannot punch a hole",
    resize: "cannot set the size",
    flush: "cannot make what was written durable (fdatasync)",
    remove: "cannot remove",
    rename: "cannot rename",
    "read-small": "cannot read",
  };
  const error = Object.assign(new Error(`injected ${errno}`), { code: errno });
  return systemError(error, path, doing[kind] ?? kind, kind === "read" || kind === "write" ? { offset } : {});
}

export class FaultyStorage implements Storage {
  readonly #inner: Storage;
  readonly #judge: Judge;
  readonly stateDirectories: readonly string[];
  /** How many operations there were. */
  count = 0;
  /** How many devices are open. */
  openCount = 0;
  /** Operations that were made to fail. */
  readonly failed: Operation[] = [];

  constructor(inner: Storage, judge: Judge) {
    this.#inner = inner;
    this.#judge = judge;
    this.stateDirectories = inner.stateDirectories;
  }

  /** @returns the bytes of a write that are still to be done before it fails; throws what fails at once */
  step(operation: Operation): { readonly doneBytes: number; readonly error: Error } | undefined {
    const fault = this.#judge(operation, this.count++);
    if (!fault) return undefined;
    this.failed.push(operation);
    return { doneBytes: fault.doneBytes ?? 0, error: failure(operation, fault.errno) };
  }

  #fail(operation: Operation): void {
    const fate = this.step(operation);
    if (fate) throw fate.error;
  }

  #watch(device: BlockDevice, path: string): FaultyDevice {
    this.openCount++;
    return new FaultyDevice(device, this, path);
  }

  facts(path: string, options?: { readonly own?: boolean }): FileFacts | undefined {
    this.#fail({ kind: "facts", path });
    return this.#inner.facts(path, options);
  }

  realPath(path: string): string {
    return this.#inner.realPath(path);
  }

  open(path: string, options?: OpenOptions): BlockDevice {
    this.#fail({ kind: "open", path });
    return this.#watch(this.#inner.open(path, options), path);
  }

  create(path: string, options?: CreateOptions): PendingFile {
    this.#fail({ kind: "create", path });
    const pending = this.#inner.create(path, options);
    const device = this.#watch(pending.device, path);
    let isOpen = true;
    const closed = (): void => {
      if (isOpen) this.openCount--;
      isOpen = false;
    };
    return {
      device,
      commit: (options) => {
        device.flush();
        this.#fail({ kind: "commit", path });
        pending.commit(options);
        closed();
      },
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
    this.#fail({ kind: "scratch", path: name });
    return this.#watch(this.#inner.scratch(name), name);
  }

  remove(path: string, options?: CreateOptions): void {
    this.#fail({ kind: "remove", path });
    this.#inner.remove(path, options);
  }

  rename(from: string, to: string, options: RenameOptions): void {
    this.#fail({ kind: "rename", path: to });
    this.#inner.rename(from, to, options);
  }

  readSmall(path: string, limitBytes: number): Uint8Array | undefined {
    this.#fail({ kind: "read-small", path });
    return this.#inner.readSmall(path, limitBytes);
  }

  list(directory: string): readonly string[] {
    return this.#inner.list(directory);
  }

  freeBytes(path: string): number | undefined {
    return this.#inner.freeBytes(path);
  }
}

class FaultyDevice implements BlockDevice {
  readonly #inner: BlockDevice;
  readonly #storage: FaultyStorage;
  readonly #path: string;
  /** None, so that the kernel copies nothing past us. */
  readonly fd = undefined;
  #isOpen = true;

  constructor(inner: BlockDevice, storage: FaultyStorage, path: string) {
    this.#inner = inner;
    this.#storage = storage;
    this.#path = path;
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

  #step(kind: OperationKind, offset: number, length: number, partly?: (doneBytes: number) => void): void {
    const fate = this.#storage.step({ kind, path: this.#path, offset, length });
    if (!fate) return;
    if (fate.doneBytes > 0) partly?.(Math.min(length, fate.doneBytes));
    throw fate.error;
  }

  read(target: Uint8Array, offset: number): number {
    this.#step("read", offset, target.length);
    return this.#inner.read(target, offset);
  }

  *dataExtents(from: number, to: number): Generator<Extent> {
    this.#step("extents", from, to - from);
    yield* this.#inner.dataExtents(from, to);
  }

  write(source: Uint8Array, offset: number): void {
    this.#step("write", offset, source.length, (done) => this.#inner.write(source.subarray(0, done), offset));
    this.#inner.write(source, offset);
  }

  punchHole(offset: number, length: number): boolean {
    this.#step("punch", offset, length);
    return this.#inner.punchHole(offset, length);
  }

  resize(sizeBytes: number): void {
    this.#step("resize", sizeBytes, 0);
    this.#inner.resize(sizeBytes);
  }

  flush(): void {
    this.#step("flush", 0, 0);
    this.#inner.flush();
  }

  close(): void {
    if (this.#isOpen) this.#storage.openCount--;
    this.#isOpen = false;
    this.#inner.close();
  }
}
