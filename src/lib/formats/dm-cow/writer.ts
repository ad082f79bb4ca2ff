/**
 * Owns writing new dm-cow layers: data in its place in one file, a linear bitmap in another.
 */
import type { ByteTarget } from "../../bytes/byte-source.ts";
import { CowError } from "../../errors.ts";
import { WindowedBitmapWriter } from "../cowfile/bitmap-writer.ts";
import type { Destination, ImageWriter, WriterState, WrittenFormat } from "../image-writer.ts";
import { bitmapSectors, encodeMark, markOffsetBytes, SECTOR_BYTES } from "./layout.ts";
import { formatTable } from "./table.ts";

/** A stack has a file for each device, beside its table. */
const BITMAP_SUFFIX = ".bitmap";
const DATA_SUFFIX = ".data";

/** The driver derived the block size from a device's size: an odd number of such blocks. */
const SOFT_BLOCK_BYTES = 4096;

class DmCowWriter implements ImageWriter {
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

export const dmCowWritten: WrittenFormat<"dm-cow"> = {
  id: "dm-cow",
  base: "required",
  sizeUnitBytes: SECTOR_BYTES,
  options: [],
  layout({ base, fileName, sizeBytes }) {
    if (base?.file?.format !== "raw")
      throw new CowError("usage", `"${base?.name}" cannot be the base of a dm-cow stack: that is one raw file`, {
        hints: ["convert it to raw first"],
      });
    const sectors = sizeBytes / SECTOR_BYTES;
    const device = base.file.name;
    for (const word of [fileName, device]) {
      if (/\s/.test(word))
        throw new CowError("usage", "has a space in its name, which no dm-cow table can have", { file: word });
    }
    const layer = { bitmap: fileName + BITMAP_SUFFIX, data: fileName + DATA_SUFFIX, offset: 0 };
    return {
      granularityBytes: SECTOR_BYTES,
      several: {
        data: DATA_SUFFIX,
        beside: BITMAP_SUFFIX,
        text: `${formatTable({ sectors, base: { device, offset: 0 }, layers: [layer] })}\n`,
      },
      makeWriter: (target, beside) => new DmCowWriter(target, beside(BITMAP_SUFFIX), sectors),
    };
  },
};
