/**
 * Owns a Storage in memory that records every change, in order. The record tells what a killed process would have left
 * behind, and what a power cut might have (see powerCut).
 */
import { basename, dirname } from "node:path";
import { CowError } from "../errors.ts";
import type { BlockDevice } from "./block-device.ts";
import { applyChange, type DeviceChange, MemoryDevice, SparseBytes } from "./memory-device.ts";
import { requireBeginning } from "./own-file.ts";
import type { CreateOptions, FileFacts, OpenOptions, PendingFile, RemoveOptions, Storage } from "./storage.ts";
import type { DeviceKey } from "./sys/device-key.ts";

const SECTOR_BYTES = 512;

/** One thing done to the storage. `file` numbers a content, whatever name it has. */
export type StorageChange =
  | { readonly kind: "device"; readonly file: number; readonly change: DeviceChange }
  | {
      readonly kind: "name";
      readonly path: string;
      readonly file: number | undefined;
      /** The name that goes with it, in one step: a rename. */
      readonly from?: string;
    }
  | { readonly kind: "sync-names"; readonly directory: string };

/** Files in memory, with a record of every change: for tests, and for work without a file system. */
export class MemoryStorage implements Storage {
  readonly #contents = new Map<number, SparseBytes>();
  readonly #names = new Map<string, number>();
  readonly #devices = new Map<number, DeviceKey>();
  readonly stateDirectories = ["state"];
  #nextFile = 1;
  /** Everything done since the storage was made. */
  readonly log: StorageChange[] = [];
  /** Called before each change; if it throws, this change and all later ones do not happen. */
  onChange: (change: StorageChange, index: number) => void = () => undefined;

  /** Puts a file there without recording it. */
  put(path: string, bytes: Uint8Array | SparseBytes): void {
    const file = this.#nextFile++;
    this.#contents.set(file, bytes instanceof SparseBytes ? bytes : SparseBytes.from(bytes));
    this.#names.set(path, file);
  }

  /** Puts a block device there, with its identity. */
  putDevice(path: string, bytes: Uint8Array | SparseBytes, device: DeviceKey): void {
    this.put(path, bytes);
    this.#devices.set(this.#nextFile - 1, device);
  }

  paths(): string[] {
    return [...this.#names.keys()].sort();
  }

  content(path: string): SparseBytes | undefined {
    const file = this.#names.get(path);
    return file === undefined ? undefined : this.#contents.get(file);
  }

  /** A copy of what is there now, with an empty log: the storage after a restart. */
  clone(): MemoryStorage {
    const copy = new MemoryStorage();
    copy.#nextFile = this.#nextFile;
    for (const [path, file] of this.#names) copy.#names.set(path, file);
    for (const [file, device] of this.#devices) copy.#devices.set(file, device);
    for (const [file, content] of this.#contents) copy.#contents.set(file, content.clone());
    return copy;
  }

  facts(path: string): FileFacts | undefined {
    const file = this.#names.get(path);
    const content = this.content(path);
    if (file === undefined || !content) return undefined;
    const device = this.#devices.get(file);
    return {
      kind: device ? "block" : "file",
      ...(device ? { device } : {}),
      sizeBytes: content.sizeBytes,
      allocatedBytes: content.pages.size * 4096,
      identity: `memory:${file}`,
    };
  }

  realPath(path: string): string {
    return path;
  }

  open(path: string, options: OpenOptions = {}): BlockDevice {
    const file = this.#names.get(path);
    if (file === undefined) throw new CowError("not-found", "cannot open: no such file or directory", { file: path });
    return this.#device(path, file, options.writable ?? false);
  }

  make(path: string): BlockDevice {
    if (this.#names.has(path)) throw new CowError("exists", "cannot create: it already exists", { file: path });
    const file = this.#nextFile++;
    this.#contents.set(file, new SparseBytes());
    this.#name(path, file);
    return this.#device(path, file, true);
  }

  create(path: string, { own }: CreateOptions = {}): PendingFile {
    this.#requireOwn(path, own);
    const file = this.#nextFile++;
    this.#contents.set(file, new SparseBytes());
    const device = this.#device(path, file, true);
    let settled = false;
    const prepare = (): void => device.flush();
    const rename: PendingFile["rename"] = ({ replace }) => {
      if (!replace && this.#names.has(path)) throw new CowError("exists", "already exists", { file: path });
      this.#name(path, file);
      settled = true;
    };
    const sync = (): void => this.#syncNames(path);
    return {
      device,
      prepare,
      rename,
      sync,
      commit: (options) => {
        prepare();
        rename(options);
        sync();
      },
      abandon: () => {
        if (!settled) this.#contents.delete(file);
      },
    };
  }

  scratch(name: string): BlockDevice {
    return new MemoryDevice(name, new SparseBytes());
  }

  remove(path: string, { own, mayReturn = false }: RemoveOptions = {}): void {
    this.#requireOwn(path, own);
    if (!this.#names.has(path)) return;
    this.#name(path, undefined);
    if (!mayReturn) this.#syncNames(path);
  }

  rename(from: string, to: string, { replace }: { readonly replace: boolean }): void {
    const file = this.#names.get(from);
    if (file === undefined) throw new CowError("not-found", "no such file or directory", { file: from });
    if (!replace && this.#names.has(to)) throw new CowError("exists", "already exists", { file: to });
    this.#name(to, file, from);
    this.#syncNames(to);
  }

  readSmall(path: string): Uint8Array | undefined {
    return this.content(path)?.toBytes();
  }

  makeDirectory(): void {
    // A path may begin with anything.
  }

  /** For paths such as `dir/name`; a path without a directory is in `.`. */
  list(directory: string): readonly string[] {
    return this.paths()
      .filter((path) => dirname(path) === directory)
      .map((path) => basename(path));
  }

  freeBytes(): number | undefined {
    return undefined;
  }

  /**
   * A possible state after a power cut now: changes that were not made durable are kept, dropped, or
   * torn at 512-byte sectors, each as `keep` says. `before` is the storage that this one was cloned from.
   */
  powerCut(before: MemoryStorage, keep: () => boolean): MemoryStorage {
    const after = before.clone();
    after.#nextFile = this.#nextFile;
    for (const [index, change] of this.log.entries()) {
      if (change.kind === "name") {
        const durable = this.log.slice(index).some(({ kind }) => kind === "sync-names");
        if (!durable && !keep()) continue;
        if (change.from !== undefined) after.#setName(change.from, undefined);
        after.#setName(change.path, change.file);
        // It may have been made, and nothing written.
        if (change.file !== undefined && !after.#contents.has(change.file))
          after.#contents.set(change.file, new SparseBytes());
      } else if (change.kind === "device") {
        const content = after.#contents.get(change.file) ?? new SparseBytes();
        after.#contents.set(change.file, content);
        const durable = this.log
          .slice(index)
          .some((later) => later.kind === "device" && later.file === change.file && later.change.kind === "flush");
        if (durable) applyChange(content, change.change);
        else tear(content, change.change, keep);
      }
    }
    return after;
  }

  #requireOwn(path: string, own: string | undefined): void {
    const there = this.content(path);
    if (own === undefined || !there?.sizeBytes || there.holdsZeros()) return;
    const head = new Uint8Array(own.length);
    there.read(head, 0);
    requireBeginning(path, head, own);
  }

  #device(path: string, file: number, writable: boolean): MemoryDevice {
    const content = this.#contents.get(file);
    if (!content) throw new Error(`no content ${file}`);
    const device = new MemoryDevice(path, content, writable, (change) =>
      this.#record({ kind: "device", file, change }),
    );
    return Object.assign(device, { syncName: () => this.#syncNames(path) });
  }

  #name(path: string, file: number | undefined, from?: string): void {
    this.#record({ kind: "name", path, file, ...(from === undefined ? {} : { from }) });
    if (from !== undefined) this.#setName(from, undefined);
    this.#setName(path, file);
  }

  #syncNames(path: string): void {
    this.#record({ kind: "sync-names", directory: dirname(path) });
  }

  #setName(path: string, file: number | undefined): void {
    if (file === undefined) this.#names.delete(path);
    else this.#names.set(path, file);
  }

  #record(change: StorageChange): void {
    this.onChange(change, this.log.length);
    this.log.push(change);
  }
}

/** Applies the part of a change that reached the disk by chance. */
function tear(content: SparseBytes, change: DeviceChange, keep: () => boolean): void {
  if (change.kind !== "write") {
    if (keep()) applyChange(content, change);
    return;
  }
  for (let at = 0; at < change.bytes.length; ) {
    const offset = change.offset + at;
    const piece = Math.min(change.bytes.length - at, SECTOR_BYTES - (offset % SECTOR_BYTES));
    if (keep()) content.write(change.bytes.subarray(at, at + piece), offset);
    at += piece;
  }
}
