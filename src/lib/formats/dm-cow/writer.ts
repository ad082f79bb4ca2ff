/**
 * Owns writing new dm-cow layers: data in its place in one file, a linear bitmap in another.
 */
import type { ByteTarget } from "../../bytes/byte-source.ts";
import { WindowedBitmapWriter } from "../cowfile/bitmap-writer.ts";
import type { Destination, ImageWriter, WriterState } from "../image-writer.ts";
import { bitmapSectors, encodeMark, markOffsetBytes, SECTOR_BYTES } from "./layout.ts";

/** The driver derived the block size from a device's size: an odd number of such blocks. */
const SOFT_BLOCK_BYTES = 4096;

export class DmCowWriter implements ImageWriter {
  readonly unitBytes = SECTOR_BYTES;
  readonly #data: ByteTarget;
  readonly #bitmapFile: ByteTarget;
  readonly #bitmap: WindowedBitmapWriter;
  readonly #sectors: number;

  constructor(data: ByteTarget, bitmap: ByteTarget, sectors: number) {
    this.#data = data;
    this.#bitmapFile = bitmap;
    this.#bitmap = new WindowedBitmapWriter(bitmap, bitmapSectors(sectors) * SECTOR_BYTES, 0);
    this.#sectors = sectors;
  }

  data(offset: number, length: number): readonly Destination[] {
    this.zeros(offset, length);
    return [{ offset, length, at: offset }];
  }

  zeros(offset: number, length: number): void {
    this.#bitmap.mark(offset / SECTOR_BYTES, (offset + length) / SECTOR_BYTES);
  }

  checkpoint(): WriterState {
    this.#bitmap.checkpoint();
    this.#bitmapFile.flush();
    return { marked: this.#bitmap.marked };
  }

  resume(offset: number, state: WriterState): void {
    // Data written beyond that may be incomplete.
    this.#data.resize(Math.min(offset, this.#data.sizeBytes));
    this.#bitmap.resume(offset / SECTOR_BYTES, state["marked"] ?? 0);
  }

  finish(): void {
    const length = bitmapSectors(this.#sectors);
    this.#bitmap.finish();
    this.#bitmapFile.resize(markOffsetBytes(length) + SOFT_BLOCK_BYTES);
    this.#bitmapFile.write(encodeMark(length), markOffsetBytes(length));
    this.#data.resize(this.#sectors * SECTOR_BYTES);
  }
}
