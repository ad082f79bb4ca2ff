/**
 * Owns qcow2's header as declarative tables, its numbers, and the formulas that place tables and data. Everything is
 * big-endian. Source: QEMU's docs/interop/qcow2.txt, and the files that qemu-img 7.2 writes.
 */
import { type FieldSpec, type MachineModel, placeFields } from "../../bytes/struct.ts";

/** Bytes `51 46 49 fb`, "QFI\xfb". */
export const QCOW2_MAGIC = 0x514649fb;
export const MIN_CLUSTER_BITS = 9;
export const MAX_CLUSTER_BITS = 21;
export const DEFAULT_CLUSTER_BYTES = 64 * 1024;
/** Bytes of an entry in the L1 table, in a standard L2 table and in the refcount table. */
export const ENTRY_BYTES = 8;
/** With subclusters an L2 entry is followed by a bitmap. */
export const EXTENDED_ENTRY_BYTES = 16;
export const SUBCLUSTERS = 32;
export const MIN_EXTENDED_CLUSTER_BITS = 14;
/** QEMU's limit for an L1 table. */
export const MAX_L1_BYTES = 32 << 20;
/** QEMU's limit for a refcount table. */
export const MAX_REFTABLE_BYTES = 8 << 20;
export const MAX_SNAPSHOTS = 65536;
export const MAX_BACKING_NAME_BYTES = 1023;
/** Compressed data is counted in such sectors. */
export const SECTOR_BYTES = 512;

const MODEL: MachineModel = { endian: "big", wordBytes: 8 };

const V2_FIELDS = [
  { name: "magic", kind: "u32", meaning: "0x514649fb" },
  { name: "version", kind: "u32", meaning: "2 or 3" },
  { name: "backing_file_offset", kind: "word", meaning: "offset of the backing file's name, or 0" },
  { name: "backing_file_size", kind: "u32", meaning: "bytes of that name" },
  { name: "cluster_bits", kind: "u32", meaning: "a cluster has 2 to the power of this many bytes: 9 to 21" },
  { name: "size", kind: "word", meaning: "bytes of the image" },
  { name: "crypt_method", kind: "u32", meaning: "0 none, 1 AES, 2 LUKS" },
  { name: "l1_size", kind: "u32", meaning: "entries of the L1 table" },
  { name: "l1_table_offset", kind: "word", meaning: "offset of the L1 table" },
  { name: "refcount_table_offset", kind: "word", meaning: "offset of the refcount table" },
  { name: "refcount_table_clusters", kind: "u32", meaning: "clusters of the refcount table" },
  { name: "nb_snapshots", kind: "u32", meaning: "snapshots inside the file" },
  { name: "snapshots_offset", kind: "word", meaning: "offset of their table" },
] as const satisfies readonly FieldSpec[];

const V3_FIELDS = [
  ...V2_FIELDS,
  { name: "incompatible", kind: "word", meaning: "features without which the file must not be read" },
  { name: "compatible", kind: "word", meaning: "features that a reader need not know" },
  { name: "autoclear", kind: "word", meaning: "features that a writer clears if it does not know them" },
  { name: "refcount_order", kind: "u32", meaning: "a reference count has 2 to the power of this many bits" },
  { name: "header_length", kind: "u32", meaning: "bytes of the header" },
] as const satisfies readonly FieldSpec[];

export type HeaderField = (typeof V2_FIELDS)[number]["name"];
export type AnyHeaderField = (typeof V3_FIELDS)[number]["name"];

export const V2_LAYOUT = placeFields(V2_FIELDS, MODEL);
export const V3_LAYOUT = placeFields(V3_FIELDS, MODEL);
/** The byte after version 3's fields with the type of compression, in headers that are long enough. */
export const COMPRESSION_OFFSET_BYTES = V3_LAYOUT.sizeBytes;
/** The header that we write: with the type of compression, and padding to a multiple of 8. */
export const WRITTEN_HEADER_BYTES = V3_LAYOUT.sizeBytes + 8;

/** Bits of `incompatible`, by their number. */
export const INCOMPATIBLE = { dirty: 0, corrupt: 1, externalData: 2, compression: 3, extendedL2: 4 } as const;
/** Bit of `compatible`. */
export const LAZY_REFCOUNTS = 0;

export const EXTENSION = {
  end: 0,
  backingFormat: 0xe2792aca,
  featureNames: 0x6803f857,
  bitmaps: 0x23852875,
  encryption: 0x0537be77,
  externalData: 0x44415441,
} as const;

/** High halves of table entries: the flags, and the high part of the offset. */
export const HIGH_COPIED = 0x8000_0000;
export const HIGH_COMPRESSED = 0x4000_0000;
export const HIGH_OFFSET = 0x00ff_ffff;
/** Low halves: bit 0 of an L2 entry says that the cluster is zero. */
export const LOW_OFFSET = 0xffff_fe00;
export const LOW_ZERO = 1;
/** Bits of entries that are neither flags nor offset, and must be zero; in L1 and extended L2 entries bit 0 as well. */
export const HIGH_RESERVED = 0x3f00_0000;
export const LOW_RESERVED = 0x1fe;
export const TWO_32 = 0x1_0000_0000;

/** Bytes of image that one standard L2 table maps. */
export function bytesPerTable(clusterBytes: number, entryBytes: number = ENTRY_BYTES): number {
  return (clusterBytes / entryBytes) * clusterBytes;
}
