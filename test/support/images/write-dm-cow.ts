/**
 * Owns, for tests, writing one layer of a dm-cow stack: linear, as the format was intended, or closed, so that a driver which reads
 * bitmaps as it was coded shows the same image: with each sector all those are written that share its bit.
 */
import { setRange, setRuns } from "../../../src/lib/bytes/bitmap.ts";
import type { ByteTarget } from "../../../src/lib/bytes/byte-source.ts";
import { type Extent, widen } from "../../../src/lib/bytes/extent.ts";
import { isZero } from "../../../src/lib/bytes/zero.ts";
import { asCoded, isLossy } from "../../../src/lib/formats/dm-cow/addressing.ts";
import { bitmapSectors, encodeMark, markOffsetBytes, SECTOR_BYTES } from "../../../src/lib/formats/dm-cow/layout.ts";

/** How the bitmap is to be read. `closed`: as coded with blocks of so many bytes, and right in that way. */
export type DmCowMode = "linear" | { readonly closed: number };

export interface DmCowJob {
  readonly bitmap: ByteTarget;
  readonly data: ByteTarget;
  /** How long the stack is. */
  readonly sectors: number;
  /** Where the image begins on the data device, in sectors. */
  readonly dataOffset?: number;
  readonly mode: DmCowMode;
  /** What the layer is to hold, ascending, in bytes of the image; widened to whole sectors. */
  readonly extents: Iterable<Extent>;
  /** Reads the image as it is to be seen through the layer; also beside the extents, where they are widened or closed. */
  readonly read: (target: Uint8Array, offsetBytes: number) => void;
  /** The parts of `[from, to)` of the image that may be something other than zeros: the rest stays holes. */
  readonly dataExtents?: (from: number, to: number) => Iterable<Extent>;
}

const PIECE_BYTES = 256 * 1024;
/** What is written of a bitmap at a time, so that the rest stays a hole. */
const CHUNK_BYTES = 4096;
/** The window of a linear bitmap; see addressing.ts. */
const LINEAR_BLOCK_BYTES = 64 * 1024;
const LINEAR_SOFT_BLOCK = 4096;

/**
 * Writes both devices, which are empty. Data first, then the bits; whoever calls flushes and gives them their names.
 *
 * @returns yields the bytes of data written so far, every now and then, so that the caller can breathe and stop
 */
export function* writeDmCow(job: DmCowJob): Generator<number> {
  const { bitmap, data, sectors, mode, dataOffset = 0 } = job;
  const soft = mode === "linear" ? LINEAR_SOFT_BLOCK : mode.closed;
  const isClosed = mode !== "linear" && isLossy(asCoded(soft), sectors);
  const length = bitmapSectors(sectors);
  // The driver takes the block size from the size of the device: an odd number of blocks says what it is.
  bitmap.resize(markOffsetBytes(length) + soft);
  data.resize((dataOffset + sectors) * SECTOR_BYTES);
  let done = 0;
  for (const window of windowsOf(job, isClosed ? { blockBytes: soft, bits: soft, copies: 8 } : LINEAR)) {
    for (const [from, to] of window.runs) {
      for (const written of writeSectors(job, from, to)) yield done + written;
      done += (to - from) * SECTOR_BYTES;
    }
    for (let at = 0; at < window.bytes.length; at += CHUNK_BYTES) {
      const chunk = window.bytes.subarray(at, at + CHUNK_BYTES);
      if (!isZero(chunk)) bitmap.write(chunk, window.at + at);
    }
    yield done;
  }
  bitmap.write(encodeMark(length), markOffsetBytes(length));
}

interface Shape {
  readonly blockBytes: number;
  readonly bits: number;
  readonly copies: number;
}

const LINEAR: Shape = { blockBytes: LINEAR_BLOCK_BYTES, bits: LINEAR_BLOCK_BYTES * 8, copies: 1 };

interface Window {
  /** Where its bits go. */
  readonly at: number;
  readonly bytes: Uint8Array;
  /** The sectors that it speaks of, ascending. */
  readonly runs: Iterable<readonly [from: number, to: number]>;
}

/** The blocks of the bitmap that anything is in. */
function* windowsOf({ extents, sectors }: DmCowJob, shape: Shape): Generator<Window> {
  const { blockBytes, bits, copies } = shape;
  const perWindow = bits * copies;
  const limit = bitmapSectors(sectors) * SECTOR_BYTES;
  let index = -1;
  let bytes = new Uint8Array(0);
  const finished = function* (): Generator<Window> {
    if (index < 0) return;
    const at = index * blockBytes;
    yield {
      at,
      bytes: bytes.subarray(0, Math.min(bytes.length, limit - at)),
      runs: runsOf(bytes, index, shape, sectors),
    };
  };
  for (const { offset, length } of widen(extents, SECTOR_BYTES, sectors * SECTOR_BYTES)) {
    const end = (offset + length) / SECTOR_BYTES;
    for (let sector = offset / SECTOR_BYTES; sector < end; ) {
      if (Math.floor(sector / perWindow) !== index) {
        yield* finished();
        index = Math.floor(sector / perWindow);
        bytes = new Uint8Array(bits / 8);
      }
      // Up to the end of one of the parts that share their bits.
      const stop = Math.min(end, (Math.floor(sector / bits) + 1) * bits);
      setRange(bytes, sector % bits, (sector % bits) + stop - sector);
      sector = stop;
    }
  }
  yield* finished();
}

function* runsOf(
  bytes: Uint8Array,
  index: number,
  { bits, copies }: Shape,
  sectors: number,
): Generator<readonly [from: number, to: number]> {
  for (let copy = 0; copy < copies; copy++) {
    const first = (index * copies + copy) * bits;
    for (const [a, b] of setRuns(bytes, 0, Math.min(bits, Math.max(0, sectors - first)))) yield [first + a, first + b];
  }
}

/** Copies sectors from the image; what is a hole there stays one. */
function* writeSectors(
  { data, read, dataExtents, dataOffset = 0 }: DmCowJob,
  from: number,
  to: number,
): Generator<number> {
  const shift = dataOffset * SECTOR_BYTES;
  const [start, end] = [from * SECTOR_BYTES, to * SECTOR_BYTES];
  const buffer = new Uint8Array(Math.min(PIECE_BYTES, end - start));
  for (const { offset, length } of dataExtents?.(start, end) ?? [{ offset: start, length: end - start }]) {
    for (let at = offset; at < offset + length; at += PIECE_BYTES) {
      const piece = buffer.subarray(0, Math.min(PIECE_BYTES, offset + length - at));
      read(piece, at);
      if (!isZero(piece)) data.write(piece, shift + at);
      yield at + piece.length - start;
    }
  }
}
