/**
 * Owns one layer of a dm-cow stack: a bitmap device, and a data device on which every sector is where it is in the
 * image.
 */
import type { ByteSource, Place } from "../../bytes/byte-source.ts";
import { coalesce, type Extent, within } from "../../bytes/extent.ts";
import { isZero } from "../../bytes/zero.ts";
import type { BaseIdentity, Layer } from "../format.ts";
import { isLossy, type SectorBitmap } from "./addressing.ts";
import { SECTOR_BYTES } from "./layout.ts";

const PIECE_BYTES = 64 * 1024;

export interface DmCowLayerParts {
  readonly name: string;
  readonly sectors: number;
  readonly bitmap: SectorBitmap;
  readonly data: ByteSource;
  /** Where the image begins on the data device. */
  readonly dataOffsetBytes: number;
  /** Treat sectors that share a bit and are zero as not written: right only if the device was zeroed first. */
  readonly recover: boolean;
}

export class DmCowLayer implements Layer {
  readonly formatId = "dm-cow";
  readonly granularityBytes = SECTOR_BYTES;
  readonly name: string;
  readonly virtualSizeBytes: number;
  readonly base: BaseIdentity;
  readonly #parts: DmCowLayerParts;
  readonly #guesses: boolean;

  constructor(parts: DmCowLayerParts) {
    this.#parts = parts;
    this.name = parts.name;
    this.virtualSizeBytes = parts.sectors * SECTOR_BYTES;
    this.base = { blocks: parts.sectors, blockBytes: SECTOR_BYTES, fingerprint: undefined };
    this.#guesses = parts.recover && isLossy(parts.bitmap.addressing, parts.sectors);
  }

  extents(from: number, to: number): Iterable<Extent> {
    return this.#held(Math.floor(from / SECTOR_BYTES), Math.ceil(to / SECTOR_BYTES));
  }

  *places(from: number, to: number): Generator<Place> {
    const { data, dataOffsetBytes } = this.#parts;
    for (const { offset, length } of within(this.extents(from, to), from, to))
      yield { offset, length, source: data, at: dataOffsetBytes + offset };
  }

  #held(from: number, to: number): Iterable<Extent> {
    const marked = coalesce(bytesOf(this.#parts.bitmap.runs(from, to)));
    return this.#guesses ? coalesce(this.#notZero(marked)) : marked;
  }

  /** The sectors of some extents that hold something other than zeros. */
  *#notZero(extents: Iterable<Extent>): Generator<Extent> {
    const { data, dataOffsetBytes } = this.#parts;
    const buffer = new Uint8Array(PIECE_BYTES);
    for (const { offset, length } of extents) {
      if (length === 0) yield { offset, length };
      for (let at = offset; at < offset + length; at += PIECE_BYTES) {
        const piece = buffer.subarray(0, Math.min(PIECE_BYTES, offset + length - at));
        piece.fill(0, data.read(piece, dataOffsetBytes + at));
        for (let inside = 0; inside < piece.length; inside += SECTOR_BYTES)
          if (!isZero(piece, inside, inside + SECTOR_BYTES)) yield { offset: at + inside, length: SECTOR_BYTES };
        yield { offset: at + piece.length, length: 0 };
      }
    }
  }
}

function* bytesOf(runs: Iterable<readonly [from: number, to: number]>): Generator<Extent> {
  for (const [from, to] of runs) yield { offset: from * SECTOR_BYTES, length: (to - from) * SECTOR_BYTES };
}
