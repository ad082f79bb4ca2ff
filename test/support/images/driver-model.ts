/**
 * Owns a cowfile in memory that obeys the rules of the original driver: what a write puts on disk and when, what a crash
 * leaves. Written from the description of the format alone; shares no code with src/lib, so that one can judge the other.
 */
import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import type { CowAbi } from "../../../src/lib/index.ts";

export const BLOCK = 1024;
const MAGIC = 0x574f437f;
const DIRTY = 1;
/** Bits in one block of the bitmap: the driver flushes these together. */
const BITS_PER_FLUSH = 8192;

/** An image as the blocks of it that are not holes, and what lies behind the last whole block. */
export interface SparseImage {
  readonly blockCount: number;
  readonly blocks: ReadonlyMap<number, Uint8Array>;
  readonly tail: Uint8Array;
}

const ZERO_BLOCK = new Uint8Array(BLOCK);

export function isZeroBlock(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** Writes only what is there: the rest of the file is holes. */
export function writeImage(path: string, { blockCount, blocks, tail }: SparseImage): void {
  writeSparse(path, blockCount * BLOCK + tail.length, [
    ...[...blocks].map(([block, bytes]) => [block * BLOCK, bytes] as const),
    [blockCount * BLOCK, tail],
  ]);
}

export function writeSparse(path: string, length: number, parts: readonly (readonly [number, Uint8Array])[]): void {
  const fd = openSync(path, "w");
  ftruncateSync(fd, length);
  for (const [offset, bytes] of parts) writeSync(fd, bytes, 0, bytes.length, offset);
  closeSync(fd);
}

/** All bytes of an image, with some blocks replaced. */
export function imageBytes(image: SparseImage, over: ReadonlyMap<number, Uint8Array> = new Map()): Buffer {
  const bytes = Buffer.alloc(image.blockCount * BLOCK + image.tail.length);
  for (const source of [image.blocks, over]) for (const [block, content] of source) bytes.set(content, block * BLOCK);
  bytes.set(image.tail, image.blockCount * BLOCK);
  return bytes;
}

/** The 32 bits of the fingerprint, block by block as the driver takes it. */
export function naiveFingerprint(image: Uint8Array): number {
  let fingerprint = 0n;
  let taken = 0n;
  for (let at = 0; at + BLOCK <= image.length && taken < 4n; at += BLOCK) {
    let sum = 0;
    for (const byte of image.subarray(at, at + BLOCK)) sum = (sum + byte) % 256;
    if (sum !== 0) fingerprint |= BigInt(sum) << (8n * taken++);
  }
  return Number(fingerprint);
}

/** Everything that is in a cowfile. */
export interface CowContents {
  readonly abi: CowAbi;
  readonly flags: number;
  readonly rdoBlocks: number;
  readonly dataOffset: number;
  readonly fingerprint: number;
  readonly used: number;
  readonly bits: ReadonlySet<number>;
  readonly blocks: ReadonlyMap<number, Uint8Array>;
  /** Where the file is longer or shorter than bitmap and blocks make it. */
  readonly length?: number;
}

export function mapBytesFor(rdoBlocks: number): number {
  return Math.floor((rdoBlocks + BITS_PER_FLUSH - 1) / BITS_PER_FLUSH) * 1024;
}

export function leastDataOffset(rdoBlocks: number): number {
  return Math.floor((1024 + mapBytesFor(rdoBlocks) + 4095) / 4096) * 4096;
}

export function cowfileLength({ rdoBlocks, dataOffset, blocks, length }: CowContents): number {
  return (
    length ?? Math.max(1024 + mapBytesFor(rdoBlocks), ...[...blocks.keys()].map((b) => dataOffset + (b + 1) * BLOCK))
  );
}

/** The struct alone, field by field as the compiler of that machine lays it out. */
export function headBytes(contents: CowContents): Buffer {
  const { abi, flags, rdoBlocks, dataOffset, fingerprint, used } = contents;
  const little = abi.startsWith("le");
  const long = abi.endsWith("64");
  const extended =
    long && fingerprint >= 0x8000_0000 ? 0xffff_ffff_0000_0000n + BigInt(fingerprint) : BigInt(fingerprint);
  const words = [1024n, BigInt(mapBytesFor(rdoBlocks)), BigInt(dataOffset), BigInt(rdoBlocks), extended, BigInt(used)];
  const bytes = Buffer.alloc(long ? 56 : 32);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  view.setUint32(0, MAGIC, little);
  view.setUint16(4, 1, little);
  view.setUint16(6, flags, little);
  for (const [i, word] of words.entries()) {
    if (long) view.setBigUint64(8 + 8 * i, word, little);
    else view.setUint32(8 + 4 * i, Number(word), little);
  }
  return bytes;
}

export function bitmapBytes({ rdoBlocks, bits }: CowContents): Buffer {
  const map = Buffer.alloc(mapBytesFor(rdoBlocks));
  for (const bit of bits) map[Math.floor(bit / 8)] = (map[Math.floor(bit / 8)] ?? 0) + 2 ** (bit % 8);
  return map;
}

function parts(contents: CowContents): [number, Uint8Array][] {
  const length = cowfileLength(contents);
  const data = [...contents.blocks].map(([block, bytes]): [number, Uint8Array] => {
    const offset = contents.dataOffset + block * BLOCK;
    return [offset, bytes.subarray(0, Math.max(0, length - offset))];
  });
  return [[0, headBytes(contents)], [1024, bitmapBytes(contents)], ...data.filter(([, bytes]) => bytes.length > 0)];
}

export function writeCowfile(path: string, contents: CowContents): void {
  writeSparse(path, cowfileLength(contents), parts(contents));
}

export function cowfileBytes(contents: CowContents): Buffer {
  const bytes = Buffer.alloc(cowfileLength(contents));
  for (const [offset, part] of parts(contents)) bytes.set(part, offset);
  return bytes;
}

/** After which of its three steps a write dies; see §5 of the format's description. */
export type Step = "data" | "head" | "bitmap";

/** One open cowfile over a base. `write` in whole or half blocks; `contents` is what is on disk. */
export class DriverModel {
  readonly #base: SparseImage;
  readonly #abi: CowAbi;
  readonly #dataOffset: number;
  readonly #blocks = new Map<number, Uint8Array>();
  /** In the driver's memory. */
  readonly #marked = new Set<number>();
  readonly #markedOnDisk = new Set<number>();
  #flags = 0;
  #usedOnDisk = 0;
  readonly #fingerprint: number;

  constructor(base: SparseImage, abi: CowAbi, dataOffset = leastDataOffset(base.blockCount)) {
    this.#base = base;
    this.#abi = abi;
    this.#dataOffset = dataOffset;
    this.#fingerprint = naiveFingerprint(imageBytes(base));
  }

  /** What the user of the device reads. */
  read(block: number): Uint8Array {
    const source = this.#marked.has(block) ? this.#blocks : this.#base.blocks;
    return source.get(block) ?? ZERO_BLOCK;
  }

  /** Writes within one block; with `diesAfter` only up to that step, and the model must be used no more. */
  write(block: number, bytes: Uint8Array, offsetInBlock = 0, diesAfter?: Step): void {
    const isNew = !this.#marked.has(block);
    const content = Uint8Array.from(this.read(block));
    content.set(bytes, offsetInBlock);
    this.#blocks.set(block, content);
    if (diesAfter === "data") return;
    this.#marked.add(block);
    if (isNew) this.#flags |= DIRTY;
    if (diesAfter === "head") return;
    if (isNew && isZeroBlock(content)) this.#flushBitmap(block);
  }

  /** A block of the bitmap carries along every other pending bit in it. */
  #flushBitmap(block: number): void {
    const first = block - (block % BITS_PER_FLUSH);
    for (const bit of this.#marked) if (bit >= first && bit < first + BITS_PER_FLUSH) this.#markedOnDisk.add(bit);
  }

  sync(): void {
    for (const bit of this.#marked) this.#markedOnDisk.add(bit);
    this.#flags = 0;
    this.#usedOnDisk = this.#marked.size;
  }

  /** What is on disk now. */
  contents(): CowContents {
    return {
      abi: this.#abi,
      flags: this.#flags,
      rdoBlocks: this.#base.blockCount,
      dataOffset: this.#dataOffset,
      fingerprint: this.#fingerprint,
      used: this.#usedOnDisk,
      bits: new Set(this.#markedOnDisk),
      blocks: new Map(this.#blocks),
    };
  }
}

/** What a right repair makes of a cowfile: §8 of the format's description. */
export function repaired(contents: CowContents): CowContents {
  const { rdoBlocks, dataOffset, blocks } = contents;
  const length = cowfileLength(contents);
  const bits = new Set([...contents.bits].filter((bit) => bit < rdoBlocks));
  const padded = new Map<number, Uint8Array>();
  for (const [block, bytes] of blocks) {
    const there = Uint8Array.from(bytes);
    there.fill(0, Math.min(BLOCK, Math.max(0, length - dataOffset - block * BLOCK)));
    padded.set(block, there);
    if (block < rdoBlocks && !isZeroBlock(there)) bits.add(block);
  }
  const shortBlock = Math.floor((length - dataOffset) / BLOCK);
  const isShort = length > dataOffset && (length - dataOffset) % BLOCK !== 0 && bits.has(shortBlock);
  return {
    ...contents,
    flags: contents.flags & ~DIRTY,
    used: bits.size,
    bits,
    blocks: padded,
    length: isShort ? dataOffset + (shortBlock + 1) * BLOCK : length,
  };
}

/** The blocks that a cowfile puts over its base: marked, within the image, and there at least in part. */
export function heldBlocks(contents: CowContents): Map<number, Uint8Array> {
  const { bits, blocks, rdoBlocks, dataOffset } = contents;
  const length = cowfileLength(contents);
  const held = new Map<number, Uint8Array>();
  for (const bit of bits) {
    const there = Math.min(BLOCK, length - dataOffset - bit * BLOCK);
    if (bit >= rdoBlocks || there <= 0) continue;
    const bytes = Uint8Array.from(blocks.get(bit) ?? ZERO_BLOCK);
    held.set(bit, bytes.fill(0, there));
  }
  return held;
}
