/**
 * Owns the on-disk structs of a dm-snapshot persistent exception store as declarative tables, and the formulas that place
 * metadata and data chunks. Source: drivers/md/dm-snap-persistent.c as observed with Linux 6.1; see docs/dm-snapshot.md.
 */
import { type MachineModel, placeFields } from "../../bytes/struct.ts";

/** "SnAp", little-endian on every machine. */
export const STORE_MAGIC = 0x70416e53;
export const STORE_VERSION = 1;
export const SECTOR_BYTES = 512;
/** One exception: where a chunk of the origin is in the store. */
export const TUPLE_BYTES = 16;
/** 1 GiB: the largest power of two that the kernel takes. */
export const MAX_CHUNK_SECTORS = 2 ** 21;
/** The kernel's default: 16 KiB. */
export const DEFAULT_CHUNK_SECTORS = 32;
/** The first data chunk: after header and area 0. */
export const FIRST_DATA_CHUNK = 2;

const MODEL: MachineModel = { endian: "little", wordBytes: 8 };

export const HEADER_LAYOUT = placeFields(
  [
    { name: "magic", kind: "u32", meaning: "0x70416e53, the bytes 53 6e 41 70: SnAp" },
    { name: "valid", kind: "u32", meaning: "0 once the snapshot was given up; anything else is valid" },
    { name: "version", kind: "u32", meaning: "1" },
    { name: "chunk_size", kind: "u32", meaning: "sectors of 512 bytes per chunk, a power of two" },
  ],
  MODEL,
);

export type TupleField = "old_chunk" | "new_chunk";

export const TUPLE_LAYOUT = placeFields<TupleField>(
  [
    { name: "old_chunk", kind: "word", meaning: "chunk of the origin" },
    { name: "new_chunk", kind: "word", meaning: "chunk of the store that holds it; 0 ends the list" },
  ],
  MODEL,
);

/** Where things are in a store of one chunk size. Chunks are numbered from the start of the store. */
export interface StoreGeometry {
  readonly chunkSectors: number;
  readonly chunkBytes: number;
  /** Exceptions that a metadata area holds. */
  readonly perArea: number;
  /** Chunks from one metadata area to the next. */
  readonly strideChunks: number;
}

/** Is it a chunk size that the kernel takes? */
export function isChunkSectors(sectors: number): boolean {
  return (
    Number.isInteger(sectors) &&
    sectors >= 1 &&
    sectors <= MAX_CHUNK_SECTORS &&
    2 ** Math.round(Math.log2(sectors)) === sectors
  );
}

export function storeGeometry(chunkSectors: number): StoreGeometry {
  const chunkBytes = chunkSectors * SECTOR_BYTES;
  const perArea = chunkBytes / TUPLE_BYTES;
  return { chunkSectors, chunkBytes, perArea, strideChunks: perArea + 1 };
}

/** The chunk of metadata area `area`. */
export function areaChunk({ strideChunks }: StoreGeometry, area: number): number {
  return 1 + area * strideChunks;
}

/** Header and metadata areas can never hold data. */
export function isMetadataChunk({ strideChunks }: StoreGeometry, chunk: number): boolean {
  return chunk === 0 || chunk % strideChunks === 1;
}

/** The chunk after `chunk`, skipping a metadata area. */
export function skipMetadata(geometry: StoreGeometry, chunk: number): number {
  return isMetadataChunk(geometry, chunk) ? chunk + 1 : chunk;
}

/** The chunk of the `index`-th exception of a store without holes. */
export function dataChunk({ perArea }: StoreGeometry, index: number): number {
  return FIRST_DATA_CHUNK + index + Math.floor(index / perArea);
}

/** The exception whose data is in that chunk, in a store without holes: the inverse of `dataChunk`. */
export function dataIndex({ strideChunks }: StoreGeometry, chunk: number): number {
  return chunk - FIRST_DATA_CHUNK - Math.floor((chunk - FIRST_DATA_CHUNK) / strideChunks);
}

/** The offset of the `index`-th tuple in the store, in bytes. */
export function tupleOffset(geometry: StoreGeometry, index: number): number {
  const area = Math.floor(index / geometry.perArea);
  return areaChunk(geometry, area) * geometry.chunkBytes + (index % geometry.perArea) * TUPLE_BYTES;
}

/**
 * The chunks that a store must have so that a kernel loads it with `count` exceptions: after a full area the next one
 * must exist, even if it is empty.
 */
export function chunksNeeded(geometry: StoreGeometry, count: number): number {
  const lastArea = areaChunk(geometry, Math.floor(count / geometry.perArea));
  return Math.max(lastArea + 1, count === 0 ? 0 : dataChunk(geometry, count - 1) + 1);
}
