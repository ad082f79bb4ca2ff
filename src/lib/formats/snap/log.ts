/**
 * Owns one log device of snap.c: its bitmap a window at a time, its map a block at a time. Checks only the values that
 * it returns; judge.ts decides whether it is a log.
 */
import { setRuns, testBit } from "../../bytes/bitmap.ts";
import type { ByteSource } from "../../bytes/byte-source.ts";
import { atByte, CowError } from "../../errors.ts";
import type { SnapGeometry } from "./geometry.ts";

/** Bytes of bitmap that are read at a time. */
const WINDOW_BYTES = 4096;
export const WINDOW_BLOCKS = WINDOW_BYTES * 8;

export class SnapLog {
  readonly source: ByteSource;
  /** Whole blocks of the device. */
  readonly blocks: number;
  readonly geometry: SnapGeometry;
  #window: { readonly index: number; readonly bytes: Uint8Array } | undefined;
  #map: { readonly index: number; readonly view: DataView } | undefined;

  constructor(source: ByteSource, geometry: SnapGeometry) {
    this.source = source;
    this.geometry = geometry;
    this.blocks = Math.floor(source.sizeBytes / geometry.blockBytes);
  }

  /** How many blocks it can preserve. */
  get dataBlocks(): number {
    return this.blocks - this.geometry.dataBase;
  }

  /** The windows in `[from, to)` of the bitmap, in blocks of the source, that are not holes. */
  *windows(from: number, to: number): Generator<number> {
    const { sourceBlocks } = this.geometry;
    const end = Math.ceil(Math.min(to, sourceBlocks) / 8);
    let next = Math.floor(from / WINDOW_BLOCKS);
    for (const { offset, length } of this.source.dataExtents(next * WINDOW_BYTES, end)) {
      const last = Math.ceil(Math.min(end, offset + length) / WINDOW_BYTES);
      for (next = Math.max(next, Math.floor(offset / WINDOW_BYTES)); next < last; next++) yield next;
    }
  }

  /** The bits of a window, as far as the bitmap reaches. They are never overwritten. */
  bits(index: number): Uint8Array {
    if (this.#window?.index === index) return this.#window.bytes;
    const end = this.geometry.bitmapBlocks * this.geometry.blockBytes;
    const bytes = new Uint8Array(Math.min(WINDOW_BYTES, end - index * WINDOW_BYTES));
    this.source.read(bytes, index * WINDOW_BYTES);
    this.#window = { index, bytes };
    return bytes;
  }

  has(block: number): boolean {
    const index = Math.floor(block / WINDOW_BLOCKS);
    return testBit(this.bits(index), block - index * WINDOW_BLOCKS);
  }

  /** The blocks whose bit is set, ascending. */
  *preserved(): Generator<number> {
    const { sourceBlocks } = this.geometry;
    for (const index of this.windows(0, sourceBlocks)) {
      const first = index * WINDOW_BLOCKS;
      const bytes = this.bits(index);
      for (const [from, to] of setRuns(bytes, 0, Math.min(bytes.length * 8, sourceBlocks - first)))
        for (let bit = from; bit < to; bit++) yield first + bit;
    }
  }

  /** How many there are, without walking. */
  count(): number {
    const { sourceBlocks } = this.geometry;
    let count = 0;
    for (const index of this.windows(0, sourceBlocks)) {
      const bytes = this.bits(index);
      for (const [from, to] of setRuns(bytes, 0, Math.min(bytes.length * 8, sourceBlocks - index * WINDOW_BLOCKS)))
        count += to - from;
    }
    return count;
  }

  /** The offset of a block's entry on the device, in bytes. */
  entryOffset(block: number): number {
    const { bitmapBlocks, entriesPerBlock, blockBytes, wordBytes } = this.geometry;
    return (bitmapBlocks + Math.floor(block / entriesPerBlock)) * blockBytes + (block % entriesPerBlock) * wordBytes;
  }

  /** The map's entry of a block whose bit is set, as stored. */
  entry(block: number): bigint {
    const { bitmapBlocks, entriesPerBlock, blockBytes, wordBytes, littleEndian } = this.geometry;
    const index = Math.floor(block / entriesPerBlock);
    if (this.#map?.index !== index) {
      const bytes = new Uint8Array(blockBytes / 2);
      bytes.fill(0, this.source.read(bytes, (bitmapBlocks + index) * blockBytes));
      this.#map = { index, view: new DataView(bytes.buffer) };
    }
    const at = (block % entriesPerBlock) * wordBytes;
    const { view } = this.#map;
    return wordBytes === 8 ? view.getBigUint64(at, littleEndian) : BigInt(view.getUint32(at, littleEndian));
  }

  /** The offset of a block's old data, in bytes. @throws CowError `damaged` if the map points outside of the data */
  dataOffset(block: number): number {
    const entry = this.entry(block);
    if (!this.isDataBlock(entry))
      throw new CowError(
        "damaged",
        `its map gives block ${block} no place in the log, at ${atByte(this.entryOffset(block))}`,
        {
          file: this.source.name,
          details: { offset: this.entryOffset(block) },
        },
      );
    return Number(entry) * this.geometry.blockBytes;
  }

  isDataBlock(entry: bigint): boolean {
    return entry >= BigInt(this.geometry.dataBase) && entry < BigInt(this.blocks);
  }
}
