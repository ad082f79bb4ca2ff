/**
 * Owns what an image may read as: of each sector the contents it had since the last flush that covered it, and which of
 * the requests that gave them were replied to. Knows nothing of cowfiles.
 */
import { SECTOR_BYTES } from "./disk.ts";

/** A part of the image, in sectors. The sectors of all windows are numbered through. */
export interface Window {
  readonly fromSector: number;
  readonly count: number;
}

/** A request that changes the image. Times count events; Infinity is never. */
export interface Change {
  readonly what: string;
  readonly fromByte: number;
  readonly bytes: Uint8Array;
  repliedAt: number;
}

interface Version {
  readonly bytes: Uint8Array;
  /** Undefined for what was read after a crash, or was there from the start. */
  readonly change: Change | undefined;
}

/** What happened to the process: after a kill what was replied to is there, after a power cut what was flushed. */
export type Fate = "kill" | "power-cut";

export class Oracle {
  readonly windows: readonly Window[];
  readonly sectorCount: number;
  /** What a reader sees now. */
  readonly current: Buffer;
  /** Sectors that have more than one possible content; the last is the newest. */
  readonly #history = new Map<number, Version[]>();
  /** Requests that are being worked on, by sector. */
  readonly #busy = new Set<number>();
  #time = 0;
  /** Counts what happened to it: two equal numbers mean that it says the same. */
  version = 0;
  /** What is read now may then be older than what was replied to: a violation to be found. */
  #hadFailures = false;

  constructor(windows: readonly Window[], initial: Uint8Array) {
    this.windows = windows;
    this.sectorCount = windows.reduce((sum, { count }) => sum + count, 0);
    this.current = Buffer.from(initial);
  }

  /** What it says now, whatever happens to the image later. */
  snapshot(): Oracle {
    const copy = new Oracle(this.windows, this.current);
    for (const [index, versions] of this.#history) copy.#history.set(index, [...versions]);
    copy.#time = this.#time;
    copy.#hadFailures = this.#hadFailures;
    return copy;
  }

  /** The number of a sector of the image here, or -1 outside of all windows. */
  indexOf(sector: number): number {
    let before = 0;
    for (const { fromSector, count } of this.windows) {
      if (sector >= fromSector && sector < fromSector + count) return before + sector - fromSector;
      before += count;
    }
    return -1;
  }

  #sectors(fromByte: number, length: number): { readonly first: number; readonly count: number } {
    const from = Math.floor(fromByte / SECTOR_BYTES);
    const to = Math.ceil((fromByte + length) / SECTOR_BYTES);
    return { first: this.indexOf(from), count: to - from };
  }

  isBusy(fromByte: number, length: number): boolean {
    const { first, count } = this.#sectors(fromByte, length);
    for (let i = first; i < first + count; i++) if (this.#busy.has(i)) return true;
    return false;
  }

  /** Bytes of the image as a reader sees them; the range lies in one window. */
  seen(fromByte: number, length: number): Buffer {
    const from = Math.floor(fromByte / SECTOR_BYTES);
    const at = this.indexOf(from) * SECTOR_BYTES + (fromByte - from * SECTOR_BYTES);
    return this.current.subarray(at, at + length);
  }

  /** A request begins: from now on its bytes may be there. The range lies in one window. */
  begin(what: string, fromByte: number, bytes: Uint8Array): Change {
    this.version++;
    const change: Change = { what, fromByte, bytes, repliedAt: Number.POSITIVE_INFINITY };
    const { first, count } = this.#sectors(fromByte, bytes.length);
    const whole = Buffer.from(this.current.subarray(first * SECTOR_BYTES, (first + count) * SECTOR_BYTES));
    whole.set(bytes, fromByte % SECTOR_BYTES);
    for (let i = 0; i < count; i++) {
      this.#busy.add(first + i);
      const version = { bytes: whole.subarray(i * SECTOR_BYTES, (i + 1) * SECTOR_BYTES), change };
      this.#versions(first + i).push(version);
    }
    return change;
  }

  #versions(index: number): Version[] {
    let versions = this.#history.get(index);
    if (!versions) {
      versions = [{ bytes: Uint8Array.from(this.#seenSector(index)), change: undefined }];
      this.#history.set(index, versions);
    }
    return versions;
  }

  #seenSector(index: number): Buffer {
    return this.current.subarray(index * SECTOR_BYTES, (index + 1) * SECTOR_BYTES);
  }

  /** A request is done, as far as the image is concerned; it was not replied to yet. */
  done(change: Change): void {
    this.version++;
    this.seen(change.fromByte, change.bytes.length).set(change.bytes);
    this.#release(change);
  }

  /** A request failed: its bytes may be there for good, until a later one is replied to. */
  failed(change: Change): void {
    this.version++;
    this.#hadFailures = true;
    this.#release(change);
  }

  #release({ fromByte, bytes }: Change): void {
    const { first, count } = this.#sectors(fromByte, bytes.length);
    for (let i = first; i < first + count; i++) this.#busy.delete(i);
  }

  replied(change: Change): void {
    this.version++;
    change.repliedAt = ++this.#time;
  }

  /** To be called when a flush is asked for, and its result given to `flushed` when it is replied to. */
  flushBegins(): number {
    return this.#time;
  }

  /** @param own changes that the flush covers though they were not replied to before it: those of its own connection */
  flushed(since: number, own: readonly Change[]): void {
    this.version++;
    for (const change of own) this.replied(change);
    for (const [index, versions] of this.#history) {
      let floor = versions.length - 1;
      while (floor > 0 && !isCovered(versions[floor], since, own)) floor--;
      if (floor === versions.length - 1 && !this.#busy.has(index)) this.#history.delete(index);
      else versions.splice(0, floor);
    }
  }

  /** A reader saw this after something failed, when old and new are both right: it is what is there now. */
  settle(bytes: Uint8Array, fate: Fate): void {
    this.version++;
    const wrong = this.firstWrong(bytes, fate);
    if (wrong !== undefined) throw new Error(`cannot settle what is wrong at sector ${wrong}`);
    for (const [index, versions] of this.#history) {
      const seen = Uint8Array.from(bytes.subarray(index * SECTOR_BYTES, (index + 1) * SECTOR_BYTES));
      if (fate === "power-cut") versions.length = 0;
      versions.push({ bytes: seen, change: undefined });
      if (versions.length === 1) this.#history.delete(index);
    }
    this.current.set(bytes);
    this.#busy.clear();
    this.#hadFailures = false;
  }

  /** Somebody else changed the files: this is what the image is now, for good. */
  reset(bytes: Uint8Array): void {
    this.version++;
    this.#history.clear();
    this.#busy.clear();
    this.#hadFailures = false;
    this.current.set(bytes);
  }

  /** After a failure within the living process: takes what is read, if it may be, without forgetting what else may be. */
  reread(bytes: Uint8Array): number | undefined {
    this.version++;
    this.#hadFailures = true;
    const wrong = this.firstWrong(bytes, "kill");
    if (wrong === undefined) this.current.set(bytes);
    return wrong;
  }

  /** The first sector (numbered as here) that reads as something it must not, or undefined if all is well. */
  firstWrong(bytes: Uint8Array, fate: Fate, isExcused: (index: number) => boolean = () => false): number | undefined {
    const read = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (!this.#hadFailures && read.equals(this.current)) return undefined;
    for (let index = 0; index < this.sectorCount; index++) {
      const at = index * SECTOR_BYTES;
      const isCurrent = read.compare(this.current, at, at + SECTOR_BYTES, at, at + SECTOR_BYTES) === 0;
      if (isCurrent && (!this.#hadFailures || !this.#history.has(index))) continue;
      if (!this.#isPossible(index, read, fate) && !isExcused(index)) return index;
    }
    return undefined;
  }

  #isPossible(index: number, read: Buffer, fate: Fate): boolean {
    const at = index * SECTOR_BYTES;
    const versions = this.#history.get(index);
    if (!versions) return false;
    for (let i = versions.length - 1; i >= 0; i--) {
      const version = versions[i];
      if (version && read.compare(version.bytes, 0, SECTOR_BYTES, at, at + SECTOR_BYTES) === 0) return true;
      if (fate === "kill" && (!version?.change || this.#isReplied(version.change))) return false;
    }
    return false;
  }

  /** Of a snapshot: as it was then. */
  #isReplied({ repliedAt }: Change): boolean {
    return repliedAt <= this.#time;
  }

  /** What a sector might have been, in words. */
  explain(index: number, bytes: Uint8Array): string {
    const name = (part: Uint8Array): string =>
      part.every((byte) => byte === 0) ? "zeros" : Buffer.from(part.subarray(0, 8)).toString("hex");
    const versions = this.#history.get(index) ?? [];
    const known = versions.map(
      ({ change, bytes: content }) =>
        `${change ? `${change.what}${this.#isReplied(change) ? " (replied)" : ""}` : "settled"} = ${name(content)}`,
    );
    const part = bytes.subarray(index * SECTOR_BYTES, (index + 1) * SECTOR_BYTES);
    return `reads ${name(part)}; now ${name(this.#seenSector(index))}; possible: ${known.join(", ") || "only that"}`;
  }
}

function isCovered(version: Version | undefined, since: number, own: readonly Change[]): boolean {
  const change = version?.change;
  return !change || change.repliedAt <= since || own.includes(change);
}
