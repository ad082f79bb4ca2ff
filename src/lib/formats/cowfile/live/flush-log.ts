/**
 * Owns the codec of the flush log, the last part of the live journal: records of small flushes with their data, so that
 * such a flush costs one fdatasync of a few preallocated sectors, and not two of scattered new blocks. Unlike the
 * entries before it the log is fsynced, and valid after a power cut.
 *
 * Layout: records one after the other from the log's beginning, each a multiple of 512 bytes, numbered consecutively; a
 * checkpoint starts again at the log's beginning, with the next number. So the log is the records without a gap in
 * their numbers; the rest is of an earlier turn.
 *
 *    0   magic u32, number u32 (lower part), number u16 (upper part), extents u16, bytes of data u32, nonce 16 bytes,
 *        crc32 of the rest of the record u32
 *    36  per extent: offset in the image u64, length u32
 *    …   from the next multiple of 512 on: the data, one extent after the other; zeros up to the next multiple
 *
 * The stamp of the cowfile says up to which number the data of records is durable in its place, too. Their blocks must
 * still be allocated, but their data must not be written again: it may be older than the data in place.
 */
import { crc32 } from "node:zlib";
import type { ByteSource } from "../../../bytes/byte-source.ts";
import type { Extent } from "../../../bytes/extent.ts";
import { NONCE_BYTES } from "./stamp.ts";

export const LOG_BYTES = 512 * 1024;
/** Limits of one record. */
export const MAX_RECORD_EXTENTS = 32;
export const MAX_RECORD_DATA_BYTES = 64 * 1024;
const SECTOR_BYTES = 512;
const MAGIC = 0x43574c52; // "CWLR"
const NONCE_AT = 16;
const CRC_AT = NONCE_AT + NONCE_BYTES;
const EXTENTS_AT = CRC_AT + 4;
const EXTENT_BYTES = 12;

export interface LogRecord {
  /** Below 2^48: it never wraps. */
  readonly number: number;
  /** Parts of the image, in the order in which they were written. */
  readonly extents: readonly Extent[];
  /** Their contents, one after the other. */
  readonly data: Uint8Array;
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / SECTOR_BYTES) * SECTOR_BYTES;
}

/** Where the data of a record begins in it. */
export function dataOffset(extentCount: number): number {
  return roundUp(EXTENTS_AT + extentCount * EXTENT_BYTES);
}

/** The size of a record in the log. */
export function recordBytes(extentCount: number, dataBytes: number): number {
  return dataOffset(extentCount) + roundUp(dataBytes);
}

/** The checksum covers all but itself, and includes the number, so that no sector of an earlier turn matches. */
function checksum(bytes: Uint8Array): number {
  return crc32(bytes.subarray(EXTENTS_AT), crc32(bytes.subarray(0, CRC_AT)));
}

/** Encodes a record of at most MAX_RECORD_EXTENTS and MAX_RECORD_DATA_BYTES. */
export function encodeRecord({ number, extents, data }: LogRecord, nonce: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(recordBytes(extents.length, data.length));
  bytes.set(data, dataOffset(extents.length));
  sealRecord(bytes, { number, extents, dataBytes: data.length }, nonce);
  return bytes;
}

/**
 * Makes a record of bytes that have its data in place already.
 *
 * @param bytes all of the record, recordBytes() long; what is no data may be anything
 */
export function sealRecord(
  bytes: Uint8Array,
  { number, extents, dataBytes }: { number: number; extents: readonly Extent[]; dataBytes: number },
  nonce: Uint8Array,
): void {
  const from = dataOffset(extents.length);
  bytes.fill(0, 0, from);
  bytes.fill(0, from + dataBytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  view.setUint32(0, MAGIC);
  view.setUint32(4, number % 2 ** 32);
  view.setUint16(8, Math.floor(number / 2 ** 32));
  view.setUint16(10, extents.length);
  view.setUint32(12, dataBytes);
  bytes.set(nonce, NONCE_AT);
  for (const [i, { offset, length }] of extents.entries()) {
    view.setUint32(EXTENTS_AT + i * EXTENT_BYTES, Math.floor(offset / 2 ** 32));
    view.setUint32(EXTENTS_AT + i * EXTENT_BYTES + 4, offset >>> 0);
    view.setUint32(EXTENTS_AT + i * EXTENT_BYTES + 8, length);
  }
  view.setUint32(CRC_AT, checksum(bytes));
}

/** The size in the head of a record; undefined if it is not a record. */
function sizeOf(head: Uint8Array): { readonly extentCount: number; readonly dataBytes: number } | undefined {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const extentCount = view.getUint16(10);
  const dataBytes = view.getUint32(12);
  if (view.getUint32(0) !== MAGIC || extentCount > MAX_RECORD_EXTENTS || dataBytes > MAX_RECORD_DATA_BYTES) {
    return undefined;
  }
  return { extentCount, dataBytes };
}

/** The record in `bytes`; undefined if it is torn, or another session's. */
function decodeRecord(bytes: Uint8Array, extentCount: number, nonce: Uint8Array): LogRecord | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(CRC_AT) !== checksum(bytes)) return undefined;
  if (!nonce.every((byte, i) => bytes[NONCE_AT + i] === byte)) return undefined;
  const extents: Extent[] = [];
  const dataBytes = view.getUint32(12);
  let left = dataBytes;
  for (let i = 0; i < extentCount; i++) {
    const at = EXTENTS_AT + i * EXTENT_BYTES;
    const length = view.getUint32(at + 8);
    extents.push({ offset: view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4), length });
    left -= length;
  }
  if (left !== 0) return undefined;
  const from = dataOffset(extentCount);
  return {
    number: view.getUint16(8) * 2 ** 32 + view.getUint32(4),
    extents,
    data: bytes.slice(from, from + dataBytes),
  };
}

/** What a log holds. */
export interface FoundLog {
  /** In order, without gaps. */
  readonly records: readonly LogRecord[];
  /** Where the next record would go, from the log's beginning. */
  readonly endBytes: number;
}

/** Reads a session's log out of its journal. @param offset where the log begins there */
export function readLog(journal: ByteSource, offset: number, nonce: Uint8Array): FoundLog {
  const records: LogRecord[] = [];
  const head = new Uint8Array(SECTOR_BYTES);
  for (let at = 0; ; ) {
    const isThere = at + SECTOR_BYTES <= LOG_BYTES && offset + at + SECTOR_BYTES <= journal.sizeBytes;
    const size = isThere && journal.read(head, offset + at) === SECTOR_BYTES ? sizeOf(head) : undefined;
    if (!size) return { records, endBytes: at };
    const bytes = new Uint8Array(recordBytes(size.extentCount, size.dataBytes));
    const isWhole = at + bytes.length <= LOG_BYTES && journal.read(bytes, offset + at) === bytes.length;
    const record = isWhole ? decodeRecord(bytes, size.extentCount, nonce) : undefined;
    const last = records.at(-1);
    if (!record || (last && record.number !== last.number + 1)) return { records, endBytes: at };
    records.push(record);
    at += bytes.length;
  }
}
