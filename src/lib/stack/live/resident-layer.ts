/**
 * Owns a layer whose bitmap stays in memory, shared between threads, and whose blocks lie in its file one after the other:
 * what a served stack makes of each cowfile, since random reads would thrash windows of the bitmap.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import type { Extent } from "../../bytes/extent.ts";
import { BITMAP_OFFSET_BYTES, BLOCK_BYTES, mapSizeFor } from "../../formats/cowfile/layout.ts";
import { type BaseIdentity, NOT_ALLOCATED, type Place, type SearchableLayer } from "../../formats/format.ts";
import type { BlockMap } from "./block-map.ts";

const PIECE_BYTES = 64 * 1024;

/** The blocks that a map has, as extents in bytes of the image. */
function* markedExtents(map: BlockMap, from: number, to: number): Generator<Extent> {
  const last = Math.min(map.blockCount, Math.ceil(to / BLOCK_BYTES));
  for (let block = Math.floor(from / BLOCK_BYTES); block < last; ) {
    const marked = map.has(block);
    const stop = map.runEnd(block, last, marked);
    if (marked) yield { offset: block * BLOCK_BYTES, length: (stop - block) * BLOCK_BYTES };
    block = stop;
  }
}

/** Reads a cowfile's bitmap into `bytes`, which are zero; parts that are holes are not touched. */
export function loadBitmap(
  source: ByteSource,
  rdoBlocks: number,
  bytes: Uint8Array,
  onPart: (fromByte: number, toByte: number) => void = () => undefined,
): void {
  const end = BITMAP_OFFSET_BYTES + mapSizeFor(rdoBlocks);
  for (const { offset, length } of source.dataExtents(BITMAP_OFFSET_BYTES, end)) {
    for (let at = offset; at < offset + length; at += PIECE_BYTES) {
      const from = at - BITMAP_OFFSET_BYTES;
      const to = Math.min(from + PIECE_BYTES, offset + length - BITMAP_OFFSET_BYTES);
      source.read(bytes.subarray(from, to), at);
      onPart(from, to);
    }
  }
}

export class ResidentLayer implements SearchableLayer {
  readonly formatId = "cowfile";
  readonly granularityBytes = BLOCK_BYTES;
  readonly source: ByteSource;
  readonly virtualSizeBytes: number;
  readonly base: BaseIdentity;
  readonly dataOffsetBytes: number;
  foundAt = NOT_ALLOCATED;
  readonly #map: BlockMap;

  constructor(source: ByteSource, map: BlockMap, dataOffsetBytes: number, base: BaseIdentity) {
    this.source = source;
    this.#map = map;
    this.dataOffsetBytes = dataOffsetBytes;
    this.virtualSizeBytes = map.blockCount * BLOCK_BYTES;
    this.base = base;
  }

  get name(): string {
    return this.source.name;
  }

  findRun(offsetBytes: number, endBytes: number): number {
    const block = Math.floor(offsetBytes / BLOCK_BYTES);
    const isHere = this.#map.has(block);
    this.foundAt = isHere ? this.dataOffsetBytes + offsetBytes : NOT_ALLOCATED;
    return Math.min(endBytes, this.#map.runEnd(block, Math.ceil(endBytes / BLOCK_BYTES), isHere) * BLOCK_BYTES);
  }

  extents(from: number, to: number): Iterable<Extent> {
    return markedExtents(this.#map, from, to);
  }

  isClearOf(from: number, to: number): boolean {
    const first = Math.floor(from / BLOCK_BYTES);
    const last = Math.min(this.#map.blockCount, Math.ceil(to / BLOCK_BYTES));
    return first >= last || (!this.#map.has(first) && this.#map.runEnd(first, last, false) === last);
  }

  *places(from: number, to: number): Generator<Place> {
    for (const { offset, length } of this.extents(from, to)) {
      const start = Math.max(offset, from);
      const size = Math.min(offset + length, to) - start;
      if (size > 0) yield { offset: start, length: size, source: this.source, at: this.dataOffsetBytes + start };
    }
  }
}
