/**
 * Owns where things are on a dm-cow bitmap device: the bits from its first byte on, then a magic number with the length
 * of the bitmap. It does not store the length of the stack, its base, or the order of layers.
 */
import { decodeStruct, encodeStruct, placeFields } from "../../bytes/struct.ts";

export const SECTOR_BYTES = 512;
const BITS_PER_SECTOR = SECTOR_BYTES * 8;
export const MAGIC = 0x00ba_be0e_aaba_be11n;

/** The block sizes that Linux 2.6 gave to devices: what "as coded" depends on. */
export const SOFT_BLOCK_SIZES: readonly number[] = [512, 1024, 2048, 4096];
const LARGEST_SOFT_BLOCK = 4096;

const mark = placeFields(
  [
    { name: "magic", kind: "word", meaning: "0x00BABE0EAABABE11, or 0 before first use" },
    { name: "length", kind: "word", meaning: "sectors of bitmap: 1 + LEN/4096" },
  ],
  { endian: "little", wordBytes: 8 },
);

export const MARK_BYTES = mark.sizeBytes;

/** The fields after the bitmap. */
export interface Mark {
  readonly magic: bigint;
  /** As stored, not checked yet. */
  readonly length: bigint;
}

/** @param bytes at least MARK_BYTES of them */
export function decodeMark(bytes: Uint8Array): Mark {
  const { magic = 0n, length = 0n } = decodeStruct(mark, bytes);
  return { magic, length };
}

export function encodeMark(length: number): Uint8Array {
  const bytes = new Uint8Array(MARK_BYTES);
  encodeStruct(mark, { magic: MAGIC, length: BigInt(length) }, bytes);
  return bytes;
}

/** Sectors of bitmap for a stack of this many sectors. */
export function bitmapSectors(sectors: number): number {
  return 1 + Math.floor(sectors / BITS_PER_SECTOR);
}

/** The offset of magic and length, for a bitmap of this many sectors; the same for every block size. */
export function markOffsetBytes(bitmapLength: number): number {
  return SECTOR_BYTES * (Math.floor(bitmapLength / 64) * 64 + 192);
}

/** The block size that Linux 2.6 gave a device: the largest power of two up to 4096 that divides its size. */
export function softBlockOf(deviceBytes: number): number {
  let size = SECTOR_BYTES;
  while (size < LARGEST_SOFT_BLOCK && deviceBytes % (size * 2) === 0) size *= 2;
  return size;
}
