/**
 * Owns the target of a dry run: it knows its length and how much space it would take, and keeps nothing else.
 */
import { countBits, setRange } from "../bytes/bitmap.ts";
import type { BlockDevice } from "../device/block-device.ts";

/** The unit that file systems allocate. */
const PAGE_BYTES = 4096;
/** Pages are remembered by regions of this many; an unwritten region costs nothing. */
const REGION_PAGES = 32768;

export class DryTarget implements BlockDevice {
  readonly name: string;
  readonly writable = true;
  readonly fd = undefined;
  readonly seesHoles = true;
  readonly allocationUnitBytes = PAGE_BYTES;
  sizeBytes = 0;
  /** By region, a bit for each page that was written. */
  readonly #written = new Map<number, Uint8Array>();

  constructor(name: string) {
    this.name = name;
  }

  /** The space that the file would take, in pages of 4 KiB. */
  get allocatedBytes(): number {
    let pages = 0;
    for (const region of this.#written.values()) pages += countBits(region);
    return pages * PAGE_BYTES;
  }

  read(target: Uint8Array, offsetBytes: number): number {
    const length = Math.max(0, Math.min(target.length, this.sizeBytes - offsetBytes));
    target.fill(0, 0, length);
    return length;
  }

  dataExtents(): readonly [] {
    return [];
  }

  write(source: Uint8Array, offsetBytes: number): void {
    const end = offsetBytes + source.length;
    this.sizeBytes = Math.max(this.sizeBytes, end);
    const stop = Math.ceil(end / PAGE_BYTES);
    for (let page = Math.floor(offsetBytes / PAGE_BYTES); page < stop; ) {
      const region = Math.floor(page / REGION_PAGES);
      const start = region * REGION_PAGES;
      const next = Math.min(stop, start + REGION_PAGES);
      const bits = this.#written.get(region) ?? new Uint8Array(REGION_PAGES / 8);
      this.#written.set(region, bits);
      setRange(bits, page - start, next - start);
      page = next;
    }
  }

  resize(sizeBytes: number): void {
    this.sizeBytes = sizeBytes;
  }

  flush(): void {
    // There is nothing to lose.
  }

  punchHole(): boolean {
    return true;
  }

  close(): void {
    // Nothing was opened.
  }
}
