/**
 * Owns a storage for opening what a crash left just to look at it: what is created has no content, so that a state costs
 * little. Everything else is there, and may be changed.
 */
import { basename, dirname } from "node:path";
import {
  type BlockDevice,
  CowError,
  type Extent,
  type FileFacts,
  MemoryDevice,
  type PendingFile,
  SparseBytes,
  type Storage,
} from "../../src/lib/index.ts";
import type { Files } from "./disk.ts";
import { Violation } from "./violation.ts";

/** What is read of any file to tell its format. */
const PACK_PROBE_BYTES = 4096;

class Nothing extends MemoryDevice {
  override write(): void {
    // Nobody reads it back.
  }
}

/** A cowfile of which only head and bitmap may be read: whoever looks further searches it. */
class Watched extends MemoryDevice {
  readonly #guard: Guard;

  constructor(path: string, content: SparseBytes, guard: Guard) {
    super(path, content);
    this.#guard = guard;
  }

  override read(target: Uint8Array, offset: number): number {
    this.#require(offset + target.length);
    return super.read(target, offset);
  }

  override dataExtents(from: number, to: number): Iterable<Extent> {
    this.#require(to);
    return super.dataExtents(from, to);
  }

  #require(end: number): void {
    const { from, isOn } = this.#guard;
    if (isOn && end > Math.max(from, PACK_PROBE_BYTES)) throw new Violation(`it is searched, up to byte ${end}`);
  }
}

/** From which byte on a cowfile must not be read while the guard is on. */
export interface Guard {
  readonly path: string;
  readonly from: number;
  isOn: boolean;
}

export class LookStorage implements Storage {
  readonly stateDirectories = [];
  readonly #contents: Map<string, SparseBytes>;
  readonly #created = new Set<string>();
  readonly #guard: Guard | undefined;
  readonly #keeps: (path: string) => boolean;

  /** @param keeps what is created under which names has its content */
  constructor(files: Files, guard?: Guard, keeps: (path: string) => boolean = () => false) {
    this.#contents = new Map(files);
    this.#guard = guard;
    this.#keeps = keeps;
  }

  paths(): string[] {
    return [...this.#contents.keys()];
  }

  content(path: string): SparseBytes | undefined {
    return this.#contents.get(path);
  }

  facts(path: string): FileFacts | undefined {
    const content = this.#contents.get(path);
    if (!content) return undefined;
    return { kind: "file", sizeBytes: content.sizeBytes, allocatedBytes: undefined, identity: path };
  }

  realPath(path: string): string {
    return path;
  }

  open(path: string): BlockDevice {
    const content = this.#contents.get(path);
    if (!content) throw new CowError("not-found", "cannot open: no such file or directory", { file: path });
    if (path === this.#guard?.path) return new Watched(path, content, this.#guard);
    return this.#created.has(path) ? new Nothing(path, content) : new MemoryDevice(path, content);
  }

  make(path: string): BlockDevice {
    this.#created.add(path);
    this.#contents.set(path, new SparseBytes());
    return this.open(path);
  }

  create(path: string): PendingFile {
    const content = new SparseBytes();
    const isKept = this.#keeps(path);
    const rename = (): void => {
      if (!isKept) this.#created.add(path);
      this.#contents.set(path, content);
    };
    return {
      device: isKept ? new MemoryDevice(path, content) : new Nothing(path, content),
      commit: rename,
      prepare: () => undefined,
      rename,
      sync: () => undefined,
      abandon: () => undefined,
    };
  }

  scratch(name: string): BlockDevice {
    return new MemoryDevice(name, new SparseBytes());
  }

  remove(path: string): void {
    this.#contents.delete(path);
  }

  rename(from: string, to: string): void {
    const content = this.#contents.get(from);
    this.#contents.delete(from);
    if (content) this.#contents.set(to, content);
  }

  readSmall(path: string): Uint8Array | undefined {
    return this.#contents.get(path)?.toBytes();
  }

  list(directory: string): readonly string[] {
    return [...this.#contents.keys()].filter((path) => dirname(path) === directory).map((path) => basename(path));
  }

  makeDirectory(): void {
    // A path may begin with anything.
  }

  freeBytes(): number | undefined {
    return undefined;
  }
}
