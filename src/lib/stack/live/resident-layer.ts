/**
 * Owns a layer whose bitmap stays in memory, shared between threads, and whose blocks are contiguous in its file: a
 * served stack makes one for each cowfile, because random reads would thrash windows of the bitmap.
 */
import type { ByteSource, Place } from "../../bytes/byte-source.ts";
import type { Extent } from "../../bytes/extent.ts";
import { BITMAP_OFFSET_BYTES, BLOCK_BYTES, mapSizeFor } from "../../formats/cowfile/layout.ts";
import { type BaseIdentity, NOT_ALLOCATED, type SearchableLayer } from "../../formats/format.ts";
import type { BlockMap } from "./block-map.ts";

const PIECE_BYTES = 64 * 1024;

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
  readonly map: BlockMap;

  constructor(source: ByteSource, map: BlockMap, dataOffsetBytes: number, base: BaseIdentity) {
    this.source = source;
    this.map = map;
    this.dataOffsetBytes = dataOffsetBytes;
    this.virtualSizeBytes = map.blockCount * BLOCK_BYTES;
    this.base = base;
  }

  get name(): string {
    return this.source.name;
  }

  findRun(offsetBytes: number, endBytes: number): number {
    const block = Math.floor(offsetBytes / BLOCK_BYTES);
    const isHere = this.map.has(block);
    this.foundAt = isHere ? this.dataOffsetBytes + offsetBytes : NOT_ALLOCATED;
    return Math.min(endBytes, this.map.runEnd(block, Math.ceil(endBytes / BLOCK_BYTES), isHere) * BLOCK_BYTES);
  }

  extents(from: number, to: number): Iterable<Extent> {
    return this.places(from, to);
  }

  isClearOf(from: number, to: number): boolean {
    const end = Math.min(to, this.virtualSizeBytes);
    return from >= end || (this.findRun(from, end) === end && this.foundAt === NOT_ALLOCATED);
  }

  *places(from: number, to: number): Generator<Place> {
    const end = Math.min(to, this.virtualSizeBytes);
    for (let offset = from; offset < end; ) {
      const stop = this.findRun(offset, end);
      const at = this.foundAt;
      if (at !== NOT_ALLOCATED) yield { offset, length: stop - offset, source: this.source, at };
      offset = stop;
    }
  }
}
