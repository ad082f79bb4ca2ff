/**
 * Owns reading qcow2's header with its extensions, and checking every number before it is used. features.ts owns the
 * effect of features.
 */
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import { decodeStruct, type StructValues } from "../../bytes/struct.ts";
import { atByte, CowError } from "../../errors.ts";
import {
  type AnyHeaderField,
  bytesPerTable,
  COMPRESSION_OFFSET_BYTES,
  ENTRY_BYTES,
  EXTENDED_ENTRY_BYTES,
  EXTENSION,
  type HeaderField,
  INCOMPATIBLE,
  LAZY_REFCOUNTS,
  MAX_BACKING_NAME_BYTES,
  MAX_CLUSTER_BITS,
  MAX_L1_BYTES,
  MAX_REFTABLE_BYTES,
  MAX_SNAPSHOTS,
  MIN_CLUSTER_BITS,
  MIN_EXTENDED_CLUSTER_BITS,
  QCOW2_MAGIC,
  V2_LAYOUT,
  V3_LAYOUT,
} from "./layout.ts";

export type Compression = "zlib" | "zstd";

/** A header with valid numbers; its features may still be unreadable. */
export interface Qcow2Header {
  readonly version: 2 | 3;
  readonly headerBytes: number;
  readonly clusterBits: number;
  readonly clusterBytes: number;
  readonly virtualSizeBytes: number;
  readonly l1Entries: number;
  readonly l1OffsetBytes: number;
  readonly refcountTableOffsetBytes: number;
  readonly refcountTableClusters: number;
  readonly refcountOrder: number;
  readonly snapshotCount: number;
  readonly snapshotsOffsetBytes: number;
  /** 0 none, 1 AES, 2 LUKS, anything else unknown. */
  readonly cryptMethod: number;
  readonly backingFile: string | undefined;
  readonly backingFormat: string | undefined;
  /** All 64 bits. */
  readonly incompatible: bigint;
  readonly lazyRefcounts: boolean;
  readonly extendedL2: boolean;
  /** The number in the header; 0 zlib, 1 zstd. */
  readonly compressionType: number;
  /** The file's own names of features: `type:bit` → name. */
  readonly featureNames: ReadonlyMap<string, string>;
  /** The directory of persistent bitmaps, if there is one. */
  readonly bitmaps: { readonly offsetBytes: number; readonly lengthBytes: number; readonly count: number } | undefined;
  readonly externalDataFile: string | undefined;
}

type Values = StructValues<AnyHeaderField>;

const FEATURE_NAME_BYTES = 48;

/** Do these first bytes have qcow2's magic number with a known version? */
export function isQcow2(head: Uint8Array): boolean {
  if (head.length < 8) return false;
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  // Version 1 is another format of the same name.
  return view.getUint32(0) === QCOW2_MAGIC && view.getUint32(4) >= 2;
}

export function hasIncompatible(header: Qcow2Header, bit: number): boolean {
  return (header.incompatible & (1n << BigInt(bit))) !== 0n;
}

/**
 * Reads and judges the header.
 * @throws CowError `bad-head`, `truncated`, `unsupported` (a version or a size), `damaged`
 */
export function readHeader(source: ByteSource): Qcow2Header {
  const file = source.name;
  const values = readFields(source);
  const version = Number(values.version) as 2 | 3;
  const clusterBits = Number(values.cluster_bits);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) {
    throw new CowError(
      "bad-head",
      `cluster_bits at ${atByte(20)} is ${clusterBits}, not ${MIN_CLUSTER_BITS} to ${MAX_CLUSTER_BITS}`,
      { file, details: { offset: 20 } },
    );
  }
  const clusterBytes = 2 ** clusterBits;
  const head = new Uint8Array(Math.min(clusterBytes, source.sizeBytes));
  source.read(head, 0);
  const headerBytes = Number(values.header_length);
  if (headerBytes < (version === 2 ? V2_LAYOUT : V3_LAYOUT).sizeBytes || headerBytes > clusterBytes) {
    throw damaged(file, 100, `the header says that it has ${headerBytes} bytes, in clusters of ${clusterBytes}`);
  }
  const refcountOrder = Number(values.refcount_order);
  if (refcountOrder > 6) throw damaged(file, 96, `reference counts have 2^${refcountOrder} bits, more than 64`);
  const extendedL2 = (values.incompatible & (1n << BigInt(INCOMPATIBLE.extendedL2))) !== 0n;
  if (extendedL2 && clusterBits < MIN_EXTENDED_CLUSTER_BITS)
    throw damaged(file, 20, `clusters of ${clusterBytes} bytes are too small to be divided into subclusters`);
  return {
    version,
    headerBytes,
    clusterBits,
    clusterBytes,
    ...placesOf(values, clusterBytes, extendedL2, file),
    refcountOrder,
    cryptMethod: Number(values.crypt_method),
    incompatible: values.incompatible,
    lazyRefcounts: (values.compatible & (1n << BigInt(LAZY_REFCOUNTS))) !== 0n,
    extendedL2,
    compressionType: headerBytes > COMPRESSION_OFFSET_BYTES ? (head[COMPRESSION_OFFSET_BYTES] ?? 0) : 0,
    backingFile: backingName(values, head, file),
    ...readExtensions(values, head, headerBytes, file),
  };
}

/** @throws CowError `bad-head`, `truncated`, `unsupported` */
function readFields(source: ByteSource): Values {
  const file = source.name;
  const bytes = new Uint8Array(V3_LAYOUT.sizeBytes);
  const got = readZeroFilled(source, bytes, 0);
  if (!isQcow2(bytes)) throw new CowError("bad-head", "is not qcow2: no magic number at byte 0", { file });
  const version = new DataView(bytes.buffer).getUint32(4);
  if (version > 3) {
    throw new CowError("unsupported", `is qcow2 of version ${version}; versions 2 and 3 are known`, {
      file,
      details: { version },
    });
  }
  const layout = version === 2 ? V2_LAYOUT : V3_LAYOUT;
  if (got < layout.sizeBytes)
    throw new CowError("truncated", `the file ends at ${atByte(got)}, inside its header`, { file });
  if (version === 3) return decodeStruct(V3_LAYOUT, bytes);
  const extra = { incompatible: 0n, compatible: 0n, autoclear: 0n, refcount_order: 4n };
  return { ...decodeStruct(V2_LAYOUT, bytes), ...extra, header_length: BigInt(V2_LAYOUT.sizeBytes) };
}

function damaged(file: string, offset: number, message: string): CowError {
  return new CowError("damaged", `${message} (at ${atByte(offset)})`, { file, details: { offset } });
}

/** The checked offsets of the tables. They must be at clusters, and exact as numbers. */
function placesOf(values: Values, clusterBytes: number, extendedL2: boolean, file: string) {
  const place = (name: HeaderField, at: number): number => {
    const value = values[name];
    if (value > BigInt(Number.MAX_SAFE_INTEGER) || Number(value) % clusterBytes !== 0)
      throw damaged(file, at, `${name} is ${value}, where no cluster begins`);
    return Number(value);
  };
  if (values.size > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new CowError("unsupported", `its image has ${values.size} bytes, more than 2^53`, {
      file,
      details: { offset: 24 },
    });
  }
  const virtualSizeBytes = Number(values.size);
  const l1Entries = Number(values.l1_size);
  const perTable = bytesPerTable(clusterBytes, extendedL2 ? EXTENDED_ENTRY_BYTES : ENTRY_BYTES);
  if (l1Entries * ENTRY_BYTES > MAX_L1_BYTES)
    throw damaged(file, 36, `the L1 table has ${l1Entries} entries, more than fit in ${MAX_L1_BYTES} bytes`);
  if (l1Entries < Math.ceil(virtualSizeBytes / perTable))
    throw damaged(file, 36, `the L1 table has ${l1Entries} entries, too few for an image of ${virtualSizeBytes} bytes`);
  const refcountTableClusters = Number(values.refcount_table_clusters);
  if (refcountTableClusters * clusterBytes > Math.max(MAX_REFTABLE_BYTES, clusterBytes))
    throw damaged(file, 56, `the refcount table has ${refcountTableClusters} clusters, more than it can need`);
  const snapshotCount = Number(values.nb_snapshots);
  if (snapshotCount > MAX_SNAPSHOTS) throw damaged(file, 60, `the file says that it has ${snapshotCount} snapshots`);
  return {
    virtualSizeBytes,
    l1Entries,
    l1OffsetBytes: place("l1_table_offset", 40),
    refcountTableOffsetBytes: place("refcount_table_offset", 48),
    refcountTableClusters,
    snapshotCount,
    snapshotsOffsetBytes: snapshotCount === 0 ? 0 : place("snapshots_offset", 64),
  };
}

function backingName(values: Values, head: Uint8Array, file: string): string | undefined {
  const offset = values.backing_file_offset;
  if (offset === 0n) return undefined;
  const length = Number(values.backing_file_size);
  if (length === 0) return undefined;
  if (length > MAX_BACKING_NAME_BYTES || offset + BigInt(length) > BigInt(head.length))
    throw damaged(file, 8, `the name of the backing file has ${length} bytes at ${offset}, outside the first cluster`);
  return new TextDecoder().decode(head.subarray(Number(offset), Number(offset) + length));
}

interface Extensions {
  readonly backingFormat: string | undefined;
  readonly featureNames: ReadonlyMap<string, string>;
  readonly bitmaps: Qcow2Header["bitmaps"];
  readonly externalDataFile: string | undefined;
}

/** Walks the header extensions, which end at an end mark, at the backing file's name, or with the first cluster. */
function readExtensions(values: Values, head: Uint8Array, headerBytes: number, file: string): Extensions {
  const featureNames = new Map<string, string>();
  let backingFormat: string | undefined;
  let externalDataFile: string | undefined;
  let bitmaps: Qcow2Header["bitmaps"];
  const named = values.backing_file_offset;
  const end = named > 0n && named < BigInt(head.length) ? Number(named) : head.length;
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  for (let at = headerBytes; at + 8 <= end; ) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (type === EXTENSION.end) break;
    const body = at + 8;
    if (length > end - body) throw damaged(file, at, `a header extension of ${length} bytes does not fit the header`);
    const bytes = head.subarray(body, body + length);
    if (type === EXTENSION.backingFormat) backingFormat = text(bytes);
    else if (type === EXTENSION.externalData) externalDataFile = text(bytes);
    else if (type === EXTENSION.featureNames) readFeatureNames(bytes, featureNames);
    else if (type === EXTENSION.bitmaps && length >= 24) bitmaps = readBitmaps(view, body, file);
    at = body + Math.ceil(length / 8) * 8;
  }
  return { backingFormat, featureNames, bitmaps, externalDataFile };
}

function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end === -1 ? bytes : bytes.subarray(0, end));
}

function readFeatureNames(bytes: Uint8Array, names: Map<string, string>): void {
  for (let at = 0; at + FEATURE_NAME_BYTES <= bytes.length; at += FEATURE_NAME_BYTES)
    names.set(`${bytes[at]}:${bytes[at + 1]}`, text(bytes.subarray(at + 2, at + FEATURE_NAME_BYTES)));
}

function readBitmaps(view: DataView, at: number, file: string): Qcow2Header["bitmaps"] {
  const length = view.getBigUint64(at + 8);
  const offset = view.getBigUint64(at + 16);
  if (offset + length > BigInt(Number.MAX_SAFE_INTEGER))
    throw damaged(file, at, `the directory of bitmaps is said to lie at ${offset}, with ${length} bytes`);
  return { count: view.getUint32(at), offsetBytes: Number(offset), lengthBytes: Number(length) };
}
