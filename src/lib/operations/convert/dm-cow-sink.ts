/**
 * Owns dm-cow layers as the output of a conversion: data in its place in one file, a linear bitmap in another.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import { WindowedBitmapWriter } from "../../formats/cowfile/bitmap-writer.ts";
import { bitmapSectors, encodeMark, markOffsetBytes, SECTOR_BYTES } from "../../formats/dm-cow/layout.ts";
import type { Destination, Sink, SinkState } from "./sink.ts";

/** What the driver took as the block size of a device is told by its size: an odd number of such blocks. */
const SOFT_BLOCK_BYTES = 4096;

export class DmCowSink implements Sink {
  readonly unitBytes = SECTOR_BYTES;
  readonly #data: BlockDevice;
  readonly #bitmapDevice: BlockDevice;
  readonly #bitmap: WindowedBitmapWriter;
  readonly #sectors: number;

  constructor(data: BlockDevice, bitmap: BlockDevice, sectors: number) {
    this.#data = data;
    this.#bitmapDevice = bitmap;
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

  checkpoint(): SinkState {
    this.#bitmap.checkpoint();
    this.#bitmapDevice.flush();
    return { marked: this.#bitmap.marked };
  }

  resume(offset: number, state: SinkState): void {
    // What was written behind that, and is not known to be whole, goes.
    this.#data.resize(Math.min(offset, this.#data.sizeBytes));
    this.#bitmap.resume(offset / SECTOR_BYTES, state["marked"] ?? 0);
  }

  finish(): void {
    const length = bitmapSectors(this.#sectors);
    this.#bitmap.finish();
    this.#bitmapDevice.resize(markOffsetBytes(length) + SOFT_BLOCK_BYTES);
    this.#bitmapDevice.write(encodeMark(length), markOffsetBytes(length));
    this.#data.resize(this.#sectors * SECTOR_BYTES);
  }
}
