/**
 * Owns what the original driver and cowrepair do to a cowfile, as the description of the format has it: written from that
 * alone, so that it can judge what they make of a file that cowtool was writing.
 */
import type { SparseBytes } from "../../src/lib/index.ts";

const BLOCK_BYTES = 1024;
const ZEROS = new Uint8Array(BLOCK_BYTES);
const BITMAP_AT = 1024;
const DIRTY = 1;
const PACKED = 2;
/** Bits in one block of the bitmap: the driver writes these together. */
const BITS_PER_FLUSH = 8192;

/** A cowfile's bytes as the original tools see them. */
export class RawCowfile {
  readonly content: SparseBytes;
  readonly blockCount: number;
  readonly dataAt: number;
  readonly map: Uint8Array;
  readonly #isLong: boolean;
  readonly #isLittle: boolean;

  constructor(content: SparseBytes) {
    this.content = content;
    const head = this.#view();
    this.#isLittle = head.getUint32(0, true) === 0x574f437f;
    if (!this.#isLittle && head.getUint32(0, false) !== 0x574f437f) throw new Error("wrong magic");
    this.#isLong = head.getBigUint64(8, this.#isLittle) === 1024n;
    if (!this.#isLong && head.getUint32(8, this.#isLittle) !== 1024) throw new Error("mapunit is not 1024");
    if (head.getUint16(4, this.#isLittle) !== 1) throw new Error("the version is not 1");
    this.blockCount = this.#word(3);
    this.dataAt = this.#word(2);
    const mapSize = this.#word(1);
    if (mapSize !== BLOCK_BYTES * Math.ceil(this.blockCount / BITS_PER_FLUSH)) throw new Error("mapsize is wrong");
    if (content.sizeBytes < BITMAP_AT + mapSize) throw new Error("the bitmap is cut short");
    this.map = new Uint8Array(mapSize);
    content.read(this.map, BITMAP_AT);
  }

  #view(): DataView {
    const head = new Uint8Array(BLOCK_BYTES);
    if (this.content.read(head, 0) < BLOCK_BYTES) throw new Error("the head is cut short");
    return new DataView(head.buffer);
  }

  /** Fields behind the flags: mapunit, mapsize, doffset, rdoblocks, rdofingerprint, cowused. */
  #word(index: number): number {
    const view = this.#view();
    if (this.#isLong) return Number(view.getBigUint64(8 + 8 * index, this.#isLittle));
    return view.getUint32(8 + 4 * index, this.#isLittle);
  }

  get flags(): number {
    return this.#view().getUint16(6, this.#isLittle);
  }

  get used(): number {
    return this.#word(5);
  }

  #writeHead(flags: number, used?: number): void {
    const view = this.#view();
    view.setUint16(6, flags, this.#isLittle);
    if (used !== undefined && this.#isLong) view.setBigUint64(48, BigInt(used), this.#isLittle);
    else if (used !== undefined) view.setUint32(28, used, this.#isLittle);
    this.content.write(new Uint8Array(view.buffer), 0);
  }

  get isDirty(): boolean {
    return (this.flags & DIRTY) !== 0;
  }

  has(block: number): boolean {
    return ((this.map[block >>> 3] ?? 0) & (1 << (block & 7))) !== 0;
  }

  #mark(block: number): void {
    this.map[block >>> 3] = (this.map[block >>> 3] ?? 0) | (1 << (block & 7));
  }

  count(): number {
    let count = 0;
    for (let byte of this.map) for (; byte !== 0; byte &= byte - 1) count++;
    return count;
  }

  block(block: number): Uint8Array {
    const bytes = new Uint8Array(BLOCK_BYTES);
    this.content.read(bytes, this.dataAt + block * BLOCK_BYTES);
    return bytes;
  }

  /** Is there data for it, at least in part? */
  isInFile(block: number): boolean {
    return this.dataAt + block * BLOCK_BYTES < this.content.sizeBytes;
  }

  /** Would the driver open it without more ado? */
  get opensInDriver(): boolean {
    return !this.isDirty && (this.flags & PACKED) === 0 && this.used === this.count();
  }

  /** Blocks that have data, but no mark. */
  unmarked(): Set<number> {
    const found = new Set<number>();
    for (const page of [...this.content.pages.keys()].sort((a, b) => a - b)) {
      const from = Math.max(0, Math.floor((page * 4096 - this.dataAt) / BLOCK_BYTES));
      const to = Math.min(this.blockCount, Math.ceil(((page + 1) * 4096 - this.dataAt) / BLOCK_BYTES));
      for (let block = from; block < to; block++) {
        if (!this.has(block) && Buffer.compare(this.block(block), ZEROS) !== 0) found.add(block);
      }
    }
    return found;
  }

  /** `cowrepair -f`: marks what is not zero, counts, and clears all flags but PACKED. */
  cowrepair(): void {
    for (const block of this.unmarked()) this.#mark(block);
    this.sync(this.flags & PACKED);
  }

  /** The driver with option=r: opens a dirty file as if it were clean, if it can. */
  autorecover(): boolean {
    if (this.used !== this.count()) return false;
    this.sync(0);
    return true;
  }

  /** A write of a whole block by the driver. */
  write(block: number, bytes: Uint8Array): void {
    const isNew = !this.has(block);
    this.content.write(bytes, this.dataAt + block * BLOCK_BYTES);
    this.#mark(block);
    if (!isNew) return;
    if (!this.isDirty) this.#writeHead(this.flags | DIRTY);
    if (bytes.some((byte) => byte !== 0)) return;
    const at = Math.floor(block / BITS_PER_FLUSH) * (BITS_PER_FLUSH / 8);
    this.content.write(this.map.subarray(at, at + BITS_PER_FLUSH / 8), BITMAP_AT + at);
  }

  sync(flags = this.flags & ~DIRTY): void {
    this.content.write(this.map, BITMAP_AT);
    this.#writeHead(flags, this.count());
  }
}
