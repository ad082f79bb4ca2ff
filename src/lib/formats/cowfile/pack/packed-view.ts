/**
 * Owns reading a pack as the cowfile it was made from: any block is read without unpacking, because the k-th set bit of
 * the bitmap is the k-th block of the pack. For plain and zstd packs; gzip has no random access.
 */
import { countBits, setRuns } from "../../../bytes/bitmap.ts";
import { type ByteSource, readZeroFilled } from "../../../bytes/byte-source.ts";
import type { Extent } from "../../../bytes/extent.ts";
import { atByte, CowError } from "../../../errors.ts";
import { BitmapReader, WINDOW_BLOCKS } from "../bitmap-windows.ts";
import type { CowGeometry } from "../geometry.ts";
import type { CowHead } from "../head.ts";
import { BITMAP_OFFSET_BYTES, BLOCK_BYTES, FLAG_PACKED, HEAD_BLOCK_BYTES, headLayout } from "../layout.ts";
import { structBytes } from "./payload.ts";
import { decodePackedHead } from "./unpacker.ts";
import { ZstdPack } from "./zstd-pack.ts";

/** Access to the three parts of a pack. */
interface PackBody {
  readonly head: CowHead;
  readonly geometry: CowGeometry;
  readBitmap(target: Uint8Array, offset: number): void;
  /** Reads from the blocks, which are contiguous; reading missing bytes is the caller's error. */
  readBlocks(target: Uint8Array, offset: number): number;
  readonly blockBytesPresent: number;
  /** The parts of the bitmap that may have set bits, at their offsets in the unpacked file. */
  bitmapExtents(from: number, to: number): Iterable<Extent>;
  /** Where the pack ends, for messages. */
  readonly end: string;
}

function plainBody(source: ByteSource): PackBody {
  const block = new Uint8Array(HEAD_BLOCK_BYTES);
  const { head, geometry } = decodePackedHead(block.subarray(0, source.read(block, 0)), source.name, source.sizeBytes);
  return {
    head,
    geometry,
    readBitmap: (target, offset) => void readZeroFilled(source, target, BITMAP_OFFSET_BYTES + offset),
    readBlocks: (target, offset) => source.read(target, geometry.dataOffsetBytes + offset),
    blockBytesPresent: Math.max(0, source.sizeBytes - geometry.dataOffsetBytes),
    bitmapExtents: (from, to) => (from < to ? source.dataExtents(from, to) : []),
    end: atByte(source.sizeBytes),
  };
}

function zstdBody(source: ByteSource): PackBody {
  const pack = new ZstdPack(source);
  const block = new Uint8Array(HEAD_BLOCK_BYTES);
  const { head, geometry } = decodePackedHead(block.subarray(0, pack.read(block, 0)), source.name);
  const bitmapAt = headLayout(head.abi).sizeBytes;
  const blocksAt = bitmapAt + geometry.mapSizeBytes;
  if (pack.payloadBytes < blocksAt) {
    throw new CowError("truncated", `the packed stream ends after ${pack.payloadBytes} bytes, inside its bitmap`, {
      file: source.name,
      details: { payload_offset: pack.payloadBytes },
    });
  }
  return {
    head,
    geometry,
    readBitmap: (target, offset) => void target.fill(0, pack.read(target, bitmapAt + offset)),
    readBlocks: (target, offset) => pack.read(target, blocksAt + offset),
    blockBytesPresent: Math.max(0, pack.payloadBytes - blocksAt),
    bitmapExtents: (from, to) => (from < to ? [{ offset: from, length: to - from }] : []),
    end: atByte(source.sizeBytes),
  };
}

/** A read-only source that reads as the unpacked file would. */
export class PackedView implements ByteSource {
  readonly name: string;
  readonly sizeBytes: number;
  readonly allocationUnitBytes = BLOCK_BYTES;
  readonly seesHoles = false;
  /** Blocks according to the bitmap. */
  readonly blocks: number;
  readonly #body: PackBody;
  readonly #bitmap: BitmapReader;
  readonly #headBlock = new Uint8Array(HEAD_BLOCK_BYTES);
  /** Allocated blocks before each window of the bitmap. */
  readonly #ranks: Float64Array;

  /** @throws CowError `bad-head`, `truncated`, `damaged`, `unsupported` */
  constructor(source: ByteSource, kind: "plain" | "zstd") {
    this.name = source.name;
    this.#body = kind === "plain" ? plainBody(source) : zstdBody(source);
    const { head, geometry } = this.#body;
    this.#headBlock.set(structBytes(head, head.flags & ~FLAG_PACKED));
    this.#bitmap = new BitmapReader(this.#bitmapSource(), geometry);
    this.#ranks = new Float64Array(this.#bitmap.windowCount + 1);
    let lastBlock = -1;
    let rank = 0;
    let next = 0;
    const window = new Uint8Array(this.#bitmap.windowBytes);
    for (const index of this.#bitmap.nonHoleIndexes()) {
      const { bytes, firstBlock } = this.#bitmap.readWindow(index, window);
      const marked = countBits(bytes);
      this.#ranks.fill(rank, next, index + 1);
      next = index + 1;
      rank += marked;
      if (marked > 0) for (const [, end] of setRuns(bytes, 0, bytes.length * 8)) lastBlock = firstBlock + end - 1;
    }
    this.#ranks.fill(rank, next);
    this.blocks = rank;
    const bitmapEnd = BITMAP_OFFSET_BYTES + geometry.mapSizeBytes;
    this.sizeBytes = lastBlock < 0 ? bitmapEnd : geometry.dataOffsetBytes + (lastBlock + 1) * BLOCK_BYTES;
  }

  get head(): CowHead {
    return this.#body.head;
  }

  /** Bytes of blocks in the pack, more or fewer than the bitmap says. */
  get surplusBytes(): number {
    return this.#body.blockBytesPresent - this.blocks * BLOCK_BYTES;
  }

  read(target: Uint8Array, offsetBytes: number): number {
    const length = Math.max(0, Math.min(target.length, this.sizeBytes - offsetBytes));
    const { mapSizeBytes, dataOffsetBytes } = this.#body.geometry;
    const bitmapEnd = BITMAP_OFFSET_BYTES + mapSizeBytes;
    const parts: readonly [from: number, to: number, read: (part: Uint8Array, at: number) => void][] = [
      [0, HEAD_BLOCK_BYTES, (part, at) => part.set(this.#headBlock.subarray(at, at + part.length))],
      [BITMAP_OFFSET_BYTES, bitmapEnd, (part, at) => this.#body.readBitmap(part, at)],
      [bitmapEnd, dataOffsetBytes, (part) => part.fill(0)],
      [dataOffsetBytes, Number.POSITIVE_INFINITY, (part, at) => this.#readData(part, at)],
    ];
    for (const [from, to, read] of parts) {
      const start = Math.max(from, offsetBytes);
      const end = Math.min(to, offsetBytes + length);
      if (end > start) read(target.subarray(start - offsetBytes, end - offsetBytes), start - from);
    }
    return length;
  }

  *dataExtents(from: number, to: number): Generator<Extent> {
    const { mapSizeBytes, dataOffsetBytes } = this.#body.geometry;
    const end = Math.min(to, this.sizeBytes);
    const bitmapEnd = Math.min(end, BITMAP_OFFSET_BYTES + mapSizeBytes);
    const headEnd = Math.min(end, BITMAP_OFFSET_BYTES);
    if (from < headEnd) yield { offset: from, length: headEnd - from };
    yield* this.#body.bitmapExtents(Math.max(from, BITMAP_OFFSET_BYTES), bitmapEnd);
    const firstBlock = Math.max(0, Math.floor((from - dataOffsetBytes) / BLOCK_BYTES));
    const lastBlock = Math.ceil((end - dataOffsetBytes) / BLOCK_BYTES);
    if (lastBlock <= firstBlock) return;
    for (const { offset, length } of this.#bitmap.markedExtents(firstBlock, lastBlock)) {
      const start = Math.max(from, dataOffsetBytes + offset);
      const stop = Math.min(end, dataOffsetBytes + offset + length);
      if (stop > start) yield { offset: start, length: stop - start };
    }
  }

  /** Reads from the data area: allocated blocks by their rank, zeros between them. */
  #readData(target: Uint8Array, at: number): void {
    target.fill(0);
    const end = at + target.length;
    const firstBlock = Math.floor(at / BLOCK_BYTES);
    let rank = this.#rankOf(firstBlock);
    for (const { offset, length } of this.#bitmap.markedExtents(firstBlock, Math.ceil(end / BLOCK_BYTES))) {
      const start = Math.max(at, offset);
      const stop = Math.min(end, offset + length);
      this.#readPresent(target.subarray(start - at, stop - at), rank * BLOCK_BYTES + start - offset);
      rank += length / BLOCK_BYTES;
    }
  }

  #readPresent(target: Uint8Array, offset: number): void {
    const got = this.#body.readBlocks(target, offset);
    if (got === target.length) return;
    const missing = -this.surplusBytes;
    throw new CowError(
      "truncated",
      `the pack ends at ${this.#body.end}, ${missing} bytes before its last block's end`,
      {
        file: this.name,
      },
    );
  }

  #rankOf(block: number): number {
    const index = Math.floor(block / WINDOW_BLOCKS);
    const { bytes, firstBlock } = this.#bitmap.window(index);
    let rank = this.#ranks[index] ?? 0;
    for (const [start, end] of setRuns(bytes, 0, block - firstBlock)) rank += end - start;
    return rank;
  }

  #bitmapSource(): ByteSource {
    const { mapSizeBytes } = this.#body.geometry;
    const end = BITMAP_OFFSET_BYTES + mapSizeBytes;
    return {
      name: this.name,
      sizeBytes: end,
      allocationUnitBytes: BLOCK_BYTES,
      seesHoles: false,
      read: (target, offset) => {
        const part = target.subarray(0, Math.max(0, end - offset));
        this.#body.readBitmap(part, offset - BITMAP_OFFSET_BYTES);
        return part.length;
      },
      dataExtents: (from, to) => this.#body.bitmapExtents(from, Math.min(to, end)),
    };
  }
}
