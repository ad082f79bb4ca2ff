/**
 * Owns what a crash may leave of a few files: what is durable, what was only written, and in which order. From that it
 * makes the state after the death of the process (everything that was done) and states after a power cut (of what no
 * fsync covered any part, torn at sectors; of each sector some content that the page cache had, for a disk gets nothing else).
 */
import { dirname } from "node:path";
import { applyChange, type DeviceChange } from "../../src/lib/device/memory-device.ts";
import { MemoryStorage, SparseBytes, type StorageChange } from "../../src/lib/index.ts";

export const SECTOR_BYTES = 512;
export const PAGE_BYTES = 4096;
const PAGE_SECTORS = PAGE_BYTES / SECTOR_BYTES;

export type Random = () => number;

/** The files as a new process finds them. */
export type Files = ReadonlyMap<string, SparseBytes>;

/** Names a part of a file, so that parts can be unequally lucky in a power cut. */
export type PartOf = (path: string, offset: number) => string;

class TrackedFile {
  durable: SparseBytes;
  readonly current: SparseBytes;
  readonly pending: DeviceChange[] = [];

  constructor(content: SparseBytes) {
    this.durable = content.clone();
    this.current = content.clone();
  }

  apply(change: DeviceChange): void {
    if (change.kind === "flush") {
      this.durable = this.current.clone();
      this.pending.length = 0;
    } else {
      applyChange(this.current, change);
      this.pending.push(change);
    }
  }
}

type NameChange = Extract<StorageChange, { kind: "name" }>;

export class Disk {
  readonly #files = new Map<number, TrackedFile>();
  readonly #names = new Map<string, number>();
  readonly #durableNames = new Map<string, number>();
  #pendingNames: NameChange[] = [];

  static of(files: Files): Disk {
    const disk = new Disk();
    for (const [path, content] of files) {
      const file = disk.#files.size + 1;
      disk.#files.set(file, new TrackedFile(content));
      disk.#names.set(path, file);
      disk.#durableNames.set(path, file);
    }
    return disk;
  }

  /** A recorded change, as it happens. */
  apply(change: StorageChange): void {
    if (change.kind === "name") {
      this.#pendingNames.push(change);
      setName(this.#names, change);
    } else if (change.kind === "sync-names") {
      const isCovered = ({ path }: NameChange): boolean => dirname(path) === change.directory;
      for (const name of this.#pendingNames.filter(isCovered)) setName(this.#durableNames, name);
      this.#pendingNames = this.#pendingNames.filter((name) => !isCovered(name));
    } else {
      let file = this.#files.get(change.file);
      if (!file) {
        file = new TrackedFile(new SparseBytes());
        this.#files.set(change.file, file);
      }
      file.apply(change.change);
    }
  }

  /** A moment has passed: every name is durable. */
  syncNames(): void {
    for (const name of this.#pendingNames.splice(0)) setName(this.#durableNames, name);
  }

  /** What a file has now, for looking at it. */
  current(path: string): SparseBytes | undefined {
    const file = this.#names.get(path);
    return file === undefined ? undefined : this.#files.get(file)?.current;
  }

  /** What a file has now that may have no name. */
  contentOf(file: number): SparseBytes | undefined {
    return this.#files.get(file)?.current;
  }

  /** What a file surely has on disk. */
  durable(path: string): SparseBytes | undefined {
    const file = this.#names.get(path);
    return file === undefined ? undefined : this.#files.get(file)?.durable;
  }

  /** Of how many changes nobody knows whether they are durable. */
  get pendingCount(): number {
    let count = this.#pendingNames.length;
    for (const { pending } of this.#files.values()) count += pending.length;
    return count;
  }

  /** After the death of the process. */
  killed(): Files {
    return this.#collect(this.#names, (file) => file.current.clone());
  }

  /** After the death of the process in the middle of a write, which the kernel does page by page. */
  killedDuring(change: StorageChange, next: Random): Files {
    if (change.kind !== "device" || change.change.kind !== "write") return this.killed();
    const { offset, bytes } = change.change;
    const stop = Math.ceil((offset + next() * bytes.length) / PAGE_BYTES) * PAGE_BYTES;
    return this.#collect(this.#names, (file) => {
      const content = file.current.clone();
      if (file === this.#files.get(change.file)) content.write(bytes.subarray(0, Math.max(0, stop - offset)), offset);
      return content;
    });
  }

  /** After a power cut: of the names that no fsync of their directory covered any are there, in no order but that of one path. */
  powerCut(next: Random, partOf: PartOf): Files {
    const names = new Map(this.#durableNames);
    const lost = new Set<string>();
    for (const name of this.#pendingNames) {
      const { path, from = path } = name;
      if (!lost.has(path) && !lost.has(from) && next() < 0.5) setName(names, name);
      else lost.add(path).add(from);
    }
    const luck = new Map<string, number>();
    return this.#collect(names, (file, path) => afterPowerCut(file, path, next, partOf, luck));
  }

  #collect(names: ReadonlyMap<string, number>, content: (file: TrackedFile, path: string) => SparseBytes): Files {
    const files = new Map<string, SparseBytes>();
    for (const [path, number] of names) {
      const file = this.#files.get(number);
      if (file) files.set(path, content(file, path));
    }
    return files;
  }

  /**
   * The storage of a new process on this disk, which goes on recording here; `onChange` is called before each change.
   * What has no name any more, but may have one again after a power cut, keeps its place.
   */
  mount(onChange: (change: StorageChange) => void): MemoryStorage {
    const storage = new MemoryStorage();
    const files = [...this.#names].map(([path, number]) => ({ path, number }));
    const renumbered = new Map<number, number>();
    for (const [i, { path, number }] of files.entries()) {
      storage.put(path, this.#files.get(number)?.current.clone() ?? new SparseBytes());
      renumbered.set(number, i + 1);
    }
    this.#renumber(renumbered);
    storage.onChange = (change) => {
      onChange(change);
      this.apply(change);
    };
    return storage;
  }

  #renumber(numbers: Map<number, number>): void {
    let hidden = 1_000_000_000;
    const numberOf = (old: number): number => {
      const known = numbers.get(old);
      if (known !== undefined) return known;
      numbers.set(old, ++hidden);
      return hidden;
    };
    const files = [...this.#files].map(([old, file]) => [numberOf(old), file] as const);
    this.#files.clear();
    for (const [number, file] of files) this.#files.set(number, file);
    for (const names of [this.#names, this.#durableNames]) {
      for (const [path, old] of names) names.set(path, numberOf(old));
    }
    this.#pendingNames = this.#pendingNames.map((name) => ({
      ...name,
      file: name.file === undefined ? undefined : numberOf(name.file),
    }));
  }
}

function setName(names: Map<string, number>, { path, file, from }: NameChange): void {
  if (from !== undefined) names.delete(from);
  if (file === undefined) names.delete(path);
  else names.set(path, file);
}

/** How likely the next change of a sector did not make it: now all are lucky, now none. */
const ODDS = [0, 0, 0.03, 0.1, 0.3, 0.6, 0.9, 1, 1] as const;

function draw(next: Random): number {
  return ODDS[Math.floor(next() * ODDS.length)] ?? 0.5;
}

function afterPowerCut(
  { durable, pending, current }: TrackedFile,
  path: string,
  next: Random,
  partOf: PartOf,
  luck: Map<string, number>,
): SparseBytes {
  const content = durable.clone();
  if (pending.length === 0) return content;
  /** Pages reach a disk whole more often than torn. */
  const unit = next() < 0.5 ? PAGE_SECTORS : 1;
  const stopped = new Set<number>();
  const isLost = (sector: number): boolean => {
    const place = Math.floor(sector / unit);
    if (stopped.has(place)) return true;
    const part = partOf(path, sector * SECTOR_BYTES);
    let odds = luck.get(part);
    if (odds === undefined) {
      odds = draw(next);
      luck.set(part, odds);
    }
    if (odds === 0 || (odds < 1 && next() >= odds)) return false;
    stopped.add(place);
    return true;
  };
  for (const change of pending) keepPart(content, change, isLost);
  settleSize(content, durable.sizeBytes, current.sizeBytes, next);
  return content;
}

function keepPart(content: SparseBytes, change: DeviceChange, isLost: (sector: number) => boolean): void {
  if (change.kind === "resize") {
    if (!isLost(Math.floor(change.sizeBytes / SECTOR_BYTES))) content.resize(change.sizeBytes);
  } else if (change.kind === "write") {
    for (const [from, to] of sectorsOf(change.offset, change.bytes.length)) {
      if (isLost(Math.floor(from / SECTOR_BYTES))) continue;
      content.write(change.bytes.subarray(from - change.offset, to - change.offset), from);
    }
  } else if (change.kind === "punch") {
    // Where there is no page there is nothing to punch.
    const end = change.offset + change.length;
    for (let at = change.offset; at < end; at = (Math.floor(at / PAGE_BYTES) + 1) * PAGE_BYTES) {
      if (!content.pages.has(Math.floor(at / PAGE_BYTES))) continue;
      const stop = Math.min(end, (Math.floor(at / PAGE_BYTES) + 1) * PAGE_BYTES);
      for (const [from, to] of sectorsOf(at, stop - at)) {
        if (!isLost(Math.floor(from / SECTOR_BYTES))) content.punch(from, to - from);
      }
    }
  }
}

function* sectorsOf(offset: number, length: number): Generator<readonly [number, number]> {
  for (let at = offset; at < offset + length; ) {
    const stop = Math.min(offset + length, (Math.floor(at / SECTOR_BYTES) + 1) * SECTOR_BYTES);
    yield [at, stop];
    at = stop;
  }
}

/** The length is metadata of its own: it may lag behind the data, or run ahead of it. */
function settleSize(content: SparseBytes, before: number, after: number, next: Random): void {
  const chance = next();
  if (chance < 0.15) content.resize(before + Math.floor(((after - before) * next()) / SECTOR_BYTES) * SECTOR_BYTES);
  else if (chance < 0.3) content.resize(after);
}
