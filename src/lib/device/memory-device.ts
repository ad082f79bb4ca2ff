/**
 * Owns a device in memory: sparse, in pages, so that holes are visible as on a file system. For tests, and for running
 * an operation without a disk.
 */

import { coalesce, type Extent } from "../bytes/extent.ts";
import { isZero } from "../bytes/zero.ts";
import type { BlockDevice } from "./block-device.ts";

const PAGE_BYTES = 4096;

/** The content of a file: pages that were written; everything else is a hole. */
export class SparseBytes {
  readonly pages: Map<number, Uint8Array> = new Map();
  sizeBytes = 0;
  /** Pages that no clone shares; all others are copied before they change. */
  readonly #own = new Set<number>();

  static from(bytes: Uint8Array): SparseBytes {
    const content = new SparseBytes();
    content.sizeBytes = bytes.length;
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
      const page = bytes.subarray(at, at + PAGE_BYTES);
      if (page.some((byte) => byte !== 0)) content.write(page, at);
    }
    return content;
  }

  clone(): SparseBytes {
    const copy = new SparseBytes();
    copy.sizeBytes = this.sizeBytes;
    for (const [index, page] of this.pages) copy.pages.set(index, page);
    this.#own.clear();
    return copy;
  }

  /** A page that may be written. */
  #change(index: number): Uint8Array | undefined {
    const page = this.pages.get(index);
    if (!page || this.#own.has(index)) return page;
    const copy = page.slice();
    this.pages.set(index, copy);
    this.#own.add(index);
    return copy;
  }

  read(target: Uint8Array, offsetBytes: number): number {
    const length = Math.max(0, Math.min(target.length, this.sizeBytes - offsetBytes));
    for (let done = 0; done < length; ) {
      const at = offsetBytes + done;
      const within = at % PAGE_BYTES;
      const piece = Math.min(length - done, PAGE_BYTES - within);
      const page = this.pages.get(Math.floor(at / PAGE_BYTES));
      if (page) target.set(page.subarray(within, within + piece), done);
      else target.fill(0, done, done + piece);
      done += piece;
    }
    return length;
  }

  write(source: Uint8Array, offsetBytes: number): void {
    for (let done = 0; done < source.length; ) {
      const at = offsetBytes + done;
      const index = Math.floor(at / PAGE_BYTES);
      const within = at % PAGE_BYTES;
      const piece = Math.min(source.length - done, PAGE_BYTES - within);
      let page = this.#change(index);
      if (!page) {
        page = new Uint8Array(PAGE_BYTES);
        this.pages.set(index, page);
        this.#own.add(index);
      }
      page.set(source.subarray(done, done + piece), within);
      done += piece;
    }
    this.sizeBytes = Math.max(this.sizeBytes, offsetBytes + source.length);
  }

  resize(sizeBytes: number): void {
    for (const index of this.pages.keys()) {
      const start = index * PAGE_BYTES;
      if (start >= sizeBytes) this.pages.delete(index);
      else if (start + PAGE_BYTES > sizeBytes) this.#change(index)?.fill(0, sizeBytes - start);
    }
    this.sizeBytes = sizeBytes;
  }

  /** Whole pages become holes, the rest zeros, as on a file system. */
  punch(offset: number, length: number): void {
    for (let at = offset; at < offset + length; ) {
      const index = Math.floor(at / PAGE_BYTES);
      const end = Math.min(offset + length, (index + 1) * PAGE_BYTES);
      if (end - at === PAGE_BYTES) this.pages.delete(index);
      else this.#change(index)?.fill(0, at - index * PAGE_BYTES, end - index * PAGE_BYTES);
      at = end;
    }
  }

  *dataExtents(from: number, to: number): Generator<Extent> {
    const end = Math.min(to, this.sizeBytes);
    const pages = [...this.pages.keys()].sort((a, b) => a - b);
    for (const { offset, length } of coalesce(
      pages.map((index) => ({ offset: index * PAGE_BYTES, length: PAGE_BYTES })),
    )) {
      const start = Math.max(from, offset);
      const stop = Math.min(end, offset + length);
      if (stop > start) yield { offset: start, length: stop - start };
    }
  }

  holdsZeros(): boolean {
    return [...this.pages.values()].every((page) => isZero(page));
  }

  toBytes(): Uint8Array {
    const bytes = new Uint8Array(this.sizeBytes);
    this.read(bytes, 0);
    return bytes;
  }
}

/** A change to a device's content, for those who record or prevent it. */
export type DeviceChange =
  | { readonly kind: "write"; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: "resize"; readonly sizeBytes: number }
  | { readonly kind: "punch"; readonly offset: number; readonly length: number }
  | { readonly kind: "flush" };

/** Applies a change as the device itself would. */
export function applyChange(content: SparseBytes, change: DeviceChange): void {
  if (change.kind === "write") content.write(change.bytes, change.offset);
  else if (change.kind === "resize") content.resize(change.sizeBytes);
  else if (change.kind === "punch") content.punch(change.offset, change.length);
}

export class MemoryDevice implements BlockDevice {
  readonly name: string;
  readonly writable: boolean;
  readonly fd = undefined;
  readonly seesHoles = true;
  readonly allocationUnitBytes = PAGE_BYTES;
  readonly #content: SparseBytes;
  readonly #onChange: (change: DeviceChange) => void;

  /** @param onChange called before each change; what it throws keeps the change from happening */
  constructor(
    name: string,
    content: SparseBytes,
    writable = true,
    onChange: (change: DeviceChange) => void = () => undefined,
  ) {
    this.name = name;
    this.#content = content;
    this.writable = writable;
    this.#onChange = onChange;
  }

  get sizeBytes(): number {
    return this.#content.sizeBytes;
  }

  read(target: Uint8Array, offsetBytes: number): number {
    return this.#content.read(target, offsetBytes);
  }

  dataExtents(from: number, to: number): Iterable<Extent> {
    return this.#content.dataExtents(from, to);
  }

  write(source: Uint8Array, offsetBytes: number): void {
    this.#change({ kind: "write", offset: offsetBytes, bytes: new Uint8Array(source) });
  }

  resize(sizeBytes: number): void {
    this.#change({ kind: "resize", sizeBytes });
  }

  flush(): void {
    this.#change({ kind: "flush" });
  }

  punchHole(offset: number, length: number): boolean {
    this.#change({ kind: "punch", offset, length });
    return true;
  }

  close(): void {
    // Memory needs no closing.
  }

  #change(change: DeviceChange): void {
    if (!this.writable) throw new Error(`${this.name} is open for reading only`);
    this.#onChange(change);
    applyChange(this.#content, change);
  }
}
