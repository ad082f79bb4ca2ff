/**
 * Owns the public container format for seekable zstd streams: independent frames, then a seek table in a skippable
 * frame at the very end, which other decoders skip. Before the table is a skippable frame of ours with a SHA-256 of
 * frames and table, so that a flipped bit anywhere in the file is detected, even where a zstd decoder would not look.
 * Pure: bytes in, objects out. Source: zstd's contrib/seekable_format, version 0.1.0.
 */
import { CowError } from "../errors.ts";

const SKIPPABLE_TABLE_MAGIC = 0x184d2a5e;
const SKIPPABLE_DIGEST_MAGIC = 0x184d2a50;
const SEEKABLE_MAGIC = 0x8f92eab1;
const FRAME_MAGIC = 0xfd2fb528;
const CHECKSUM_FLAG = 0x80;
const DIGEST_TAG = "cowtool1";
const DIGEST_BYTES = 32;

export const TABLE_FOOTER_BYTES = 9;
const SKIPPABLE_HEADER_BYTES = 8;
const ENTRY_BYTES = 12;
/** The frame with the digest: header, tag, SHA-256. */
export const DIGEST_FRAME_BYTES = SKIPPABLE_HEADER_BYTES + DIGEST_TAG.length + DIGEST_BYTES;

export interface SeekEntry {
  readonly compressedBytes: number;
  readonly contentBytes: number;
  /** The low half of the content's XXH64, which zstd also puts at the end of a frame. */
  readonly checksum: number;
}

/** Does a stream begin as a zstd frame does, or as one that a decoder skips? */
export function isZstd(head: Uint8Array): boolean {
  if (head.length < 4) return false;
  const magic = new DataView(head.buffer, head.byteOffset, 4).getUint32(0, true);
  return magic === FRAME_MAGIC || (magic & 0xfffffff0) >>> 0 === 0x184d2a50;
}

/** The table entry for a frame that carries a checksum of its content. */
export function entryOf(frame: Uint8Array, contentBytes: number): SeekEntry {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  return { compressedBytes: frame.length, contentBytes, checksum: view.getUint32(frame.length - 4, true) };
}

export function encodeSeekTable(entries: readonly SeekEntry[]): Uint8Array {
  const bytes = new Uint8Array(seekTableBytes(entries.length));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, SKIPPABLE_TABLE_MAGIC, true);
  view.setUint32(4, bytes.length - SKIPPABLE_HEADER_BYTES, true);
  entries.forEach(({ compressedBytes, contentBytes, checksum }, i) => {
    view.setUint32(SKIPPABLE_HEADER_BYTES + i * ENTRY_BYTES, compressedBytes, true);
    view.setUint32(SKIPPABLE_HEADER_BYTES + i * ENTRY_BYTES + 4, contentBytes, true);
    view.setUint32(SKIPPABLE_HEADER_BYTES + i * ENTRY_BYTES + 8, checksum, true);
  });
  view.setUint32(bytes.length - 9, entries.length, true);
  view.setUint8(bytes.length - 5, CHECKSUM_FLAG);
  view.setUint32(bytes.length - 4, SEEKABLE_MAGIC, true);
  return bytes;
}

function seekTableBytes(entryCount: number): number {
  return SKIPPABLE_HEADER_BYTES + entryCount * ENTRY_BYTES + TABLE_FOOTER_BYTES;
}

/**
 * Reads the footer of a seek table.
 *
 * @param footer the last nine bytes of the file
 * @returns how many bytes at the end of the file the whole table takes
 * @throws CowError `damaged`
 */
export function seekTableSize(footer: Uint8Array, fileBytes: number, file: string): number {
  const view = new DataView(footer.buffer, footer.byteOffset, footer.byteLength);
  if (footer.length < TABLE_FOOTER_BYTES || view.getUint32(5, true) !== SEEKABLE_MAGIC) {
    throw new CowError("truncated", `the seek table at the end, before byte ${fileBytes}, is missing`, {
      file,
      hints: ["the file was cut short, or was not made by `cowtool pack`"],
    });
  }
  const size = seekTableBytes(view.getUint32(0, true));
  if (view.getUint8(4) !== CHECKSUM_FLAG || size + DIGEST_FRAME_BYTES > fileBytes) {
    throw new CowError("damaged", `the seek table's footer at byte ${fileBytes - TABLE_FOOTER_BYTES} is damaged`, {
      file,
    });
  }
  return size;
}

/** How many frames a table lists. @throws CowError `damaged` for a wrong head */
export function seekEntryCount(table: Uint8Array, tableOffset: number, file: string): number {
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  if (
    view.getUint32(0, true) !== SKIPPABLE_TABLE_MAGIC ||
    view.getUint32(4, true) !== table.length - SKIPPABLE_HEADER_BYTES
  ) {
    throw new CowError("damaged", `the seek table's head at byte ${tableOffset} is damaged`, { file });
  }
  return (table.length - SKIPPABLE_HEADER_BYTES - TABLE_FOOTER_BYTES) / ENTRY_BYTES;
}

/** One row of a table whose head was found sound. */
export function seekEntry(table: Uint8Array, index: number): SeekEntry {
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  const at = SKIPPABLE_HEADER_BYTES + index * ENTRY_BYTES;
  return {
    compressedBytes: view.getUint32(at, true),
    contentBytes: view.getUint32(at + 4, true),
    checksum: view.getUint32(at + 8, true),
  };
}

export function encodeDigestFrame(sha256: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(DIGEST_FRAME_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, SKIPPABLE_DIGEST_MAGIC, true);
  view.setUint32(4, DIGEST_TAG.length + DIGEST_BYTES, true);
  bytes.set(Buffer.from(DIGEST_TAG), SKIPPABLE_HEADER_BYTES);
  bytes.set(sha256, SKIPPABLE_HEADER_BYTES + DIGEST_TAG.length);
  return bytes;
}

/** @throws CowError `damaged` where the frame is not the one that encodeDigestFrame writes */
export function decodeDigestFrame(bytes: Uint8Array, offset: number, file: string): Uint8Array {
  const digest = bytes.slice(SKIPPABLE_HEADER_BYTES + DIGEST_TAG.length);
  if (Buffer.compare(encodeDigestFrame(digest), bytes) !== 0) {
    throw new CowError("damaged", `the checksum frame at byte ${offset} is damaged`, { file });
  }
  return digest;
}
