/**
 * Owns the cowfile's head as a declarative table, the four machine models that wrote it, and the formulas that place
 * bitmap and data. Source: `struct cowhead` of the cowloop driver and the sizes observed on its files.
 */
import type { Extent } from "../../bytes/extent.ts";
import { type FieldSpec, type MachineModel, placeFields, type StructLayout } from "../../bytes/struct.ts";

/** Magic number: bytes 7f 43 4f 57 on little-endian machines, 57 4f 43 7f on big-endian ones. */
export const COW_MAGIC = 0x574f437f;
export const COW_VERSION = 1;
export const FLAG_DIRTY = 1;
export const FLAG_PACKED = 2;
export const BLOCK_BYTES = 1024;
/** The head has a whole block, of which the struct uses the first bytes. */
export const HEAD_BLOCK_BYTES = 1024;
export const BITMAP_OFFSET_BYTES = 1024;
const DATA_ALIGNMENT_BYTES = 4096;

const COW_HEAD_FIELDS = [
  { name: "magic", kind: "u32", meaning: "0x574f437f in the byte order of the machine" },
  { name: "version", kind: "s16", meaning: "1" },
  { name: "flags", kind: "s16", meaning: "1 dirty, 2 packed" },
  { name: "mapunit", kind: "word", meaning: "bytes per block: 1024" },
  { name: "mapsize", kind: "word", meaning: "bytes of the bitmap" },
  { name: "doffset", kind: "word", meaning: "offset of the data area, in bytes" },
  { name: "rdoblocks", kind: "word", meaning: "whole blocks of the rdofile" },
  { name: "rdofingerprint", kind: "word", meaning: "fingerprint of the rdofile, sign-extended" },
  { name: "cowused", kind: "word", meaning: "set bits of the bitmap at the last sync" },
] as const satisfies readonly FieldSpec[];

export type CowField = (typeof COW_HEAD_FIELDS)[number]["name"];

/** The four kinds of machines that a cowfile may come from. */
export const ABI_NAMES = ["le64", "le32", "be64", "be32"] as const;
/** The machine a cowfile comes from: byte order and width of `unsigned long`. */
export type CowAbi = (typeof ABI_NAMES)[number];

const MODELS: Readonly<Record<CowAbi, MachineModel>> = {
  le64: { endian: "little", wordBytes: 8 },
  le32: { endian: "little", wordBytes: 4 },
  be64: { endian: "big", wordBytes: 8 },
  be32: { endian: "big", wordBytes: 4 },
};

const LAYOUTS: Readonly<Record<CowAbi, StructLayout<CowField>>> = {
  le64: placeFields(COW_HEAD_FIELDS, MODELS.le64),
  le32: placeFields(COW_HEAD_FIELDS, MODELS.le32),
  be64: placeFields(COW_HEAD_FIELDS, MODELS.be64),
  be32: placeFields(COW_HEAD_FIELDS, MODELS.be32),
};

/** The place of each field of the head on one ABI. */
export function headLayout(abi: CowAbi): StructLayout<CowField> {
  return LAYOUTS[abi];
}

/** The place of one of them. */
export function fieldPlace({ abi }: { readonly abi: CowAbi }, name: CowField): Extent {
  const placed = headLayout(abi).fields.find((candidate) => candidate.name === name);
  return { offset: placed?.offsetBytes ?? 0, length: placed?.sizeBytes ?? 0 };
}

export function isLongAbi(abi: CowAbi): boolean {
  return MODELS[abi].wordBytes === 8;
}

/**
 * The most blocks a head of that ABI can describe so that every tool agrees: on 32-bit machines the driver's rounding
 * wraps above 2^32-8; on 64-bit ones everything up to 2^53 bytes can be addressed exactly by us.
 */
export function maxBlocks(abi: CowAbi): number {
  return isLongAbi(abi) ? Math.floor(Number.MAX_SAFE_INTEGER / BLOCK_BYTES / 2) : 2 ** 32 - 8;
}

/** From this many blocks on, the original driver's 32-bit block count wraps, and it opens a wrong or no device. */
export const DRIVER_BLOCK_LIMIT = 2 ** 32;

/** Bytes of the bitmap for a base of that many blocks: whole blocks of 8192 bits. */
export function mapSizeFor(rdoBlocks: number): number {
  return BLOCK_BYTES * Math.ceil(rdoBlocks / (8 * BLOCK_BYTES));
}

/** Offset of the data area that the driver chooses: after head and bitmap, on a 4 KiB boundary. */
export function dataOffsetFor(mapSizeBytes: number): number {
  return DATA_ALIGNMENT_BYTES * Math.ceil((BITMAP_OFFSET_BYTES + mapSizeBytes) / DATA_ALIGNMENT_BYTES);
}

/** Length of an empty cowfile: head and bitmap, without the gap up to the data area. */
export function freshFileSize(rdoBlocks: number): number {
  return BITMAP_OFFSET_BYTES + mapSizeFor(rdoBlocks);
}
