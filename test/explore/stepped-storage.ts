/**
 * Owns a storage whose devices stop before and after each change, for whoever wants to do something there (let another
 * thread run), or to make the change fail.
 */
import type { BlockDevice, CowError, FileFacts, OpenOptions, PendingFile, Storage } from "../../src/lib/index.ts";

export type StepKind = "write" | "punch" | "flush" | "resize";

export interface Step {
  readonly path: string;
  readonly kind: StepKind;
  readonly offset: number;
  readonly length: number;
}

/** What becomes of a change: throws for a failure, after having done a part of it or nothing. */
export interface Stepper {
  /** Returns how many bytes of a write are still done before it fails with `error`; undefined lets it be. */
  before(step: Step): { readonly doneBytes: number; readonly error: CowError } | "cannot" | undefined;
  after(step: Step): void;
}

class SteppedDevice implements BlockDevice {
  readonly #inner: BlockDevice;
  readonly #stepper: Stepper;
  readonly #path: string;

  constructor(inner: BlockDevice, stepper: Stepper, path = inner.name) {
    this.#inner = inner;
    this.#path = path;
    this.#stepper = stepper;
  }

  get name(): string {
    return this.#inner.name;
  }
  get writable(): boolean {
    return this.#inner.writable;
  }
  get fd(): number | undefined {
    return this.#inner.fd;
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

  read(target: Uint8Array, offsetBytes: number): number {
    return this.#inner.read(target, offsetBytes);
  }

  dataExtents(from: number, to: number) {
    return this.#inner.dataExtents(from, to);
  }

  #step(step: Step, work: (lengthBytes: number) => void): boolean {
    const fate = this.#stepper.before(step);
    if (fate === "cannot") return false;
    if (fate) {
      if (fate.doneBytes > 0) work(fate.doneBytes);
      throw fate.error;
    }
    work(step.length);
    this.#stepper.after(step);
    return true;
  }

  write(source: Uint8Array, offset: number): void {
    this.#step({ path: this.#path, kind: "write", offset, length: source.length }, (length) =>
      this.#inner.write(source.subarray(0, length), offset),
    );
  }

  resize(sizeBytes: number): void {
    this.#step({ path: this.#path, kind: "resize", offset: sizeBytes, length: 0 }, () => this.#inner.resize(sizeBytes));
  }

  flush(): void {
    this.#step({ path: this.#path, kind: "flush", offset: 0, length: 0 }, () => this.#inner.flush());
  }

  punchHole(offset: number, length: number): boolean {
    return this.#step({ path: this.#path, kind: "punch", offset, length }, () => this.#inner.punchHole(offset, length));
  }

  close(): void {
    this.#inner.close();
  }
}

export class SteppedStorage implements Storage {
  readonly #inner: Storage;
  readonly #stepper: Stepper;
  readonly stateDirectories: readonly string[];

  constructor(inner: Storage, stepper: Stepper) {
    this.#inner = inner;
    this.#stepper = stepper;
    this.stateDirectories = inner.stateDirectories;
  }

  facts(path: string): FileFacts | undefined {
    return this.#inner.facts(path);
  }
  realPath(path: string): string {
    return this.#inner.realPath(path);
  }
  open(path: string, options?: OpenOptions): BlockDevice {
    return new SteppedDevice(this.#inner.open(path, options), this.#stepper);
  }
  create(path: string): PendingFile {
    const pending = this.#inner.create(path);
    const device = new SteppedDevice(pending.device, this.#stepper, `${path} (unfinished)`);
    return {
      device,
      commit: (options) => {
        device.flush();
        pending.commit(options);
      },
      abandon: () => pending.abandon(),
    };
  }
  makeDirectory(path: string): void {
    this.#inner.makeDirectory(path);
  }
  scratch(name: string): BlockDevice {
    return this.#inner.scratch(name);
  }
  remove(path: string): void {
    this.#inner.remove(path);
  }
  rename(from: string, to: string, options: { readonly replace: boolean }): void {
    this.#inner.rename(from, to, options);
  }
  readSmall(path: string, limitBytes: number): Uint8Array | undefined {
    return this.#inner.readSmall(path, limitBytes);
  }
  list(directory: string): readonly string[] {
    return this.#inner.list(directory);
  }
  freeBytes(path: string): number | undefined {
    return this.#inner.freeBytes(path);
  }
}
