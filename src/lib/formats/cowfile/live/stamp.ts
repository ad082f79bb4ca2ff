/**
 * Owns the stamp that a cowfile carries while cowtool holds it open for writing: 64 bytes in the head block behind the
 * struct, where the original driver and cowrepair keep what they find, and a flag bit in the head, which they clear.
 * The stamp counts only while the flag is set, so nothing that they changed is ever taken for ours.
 *
 * What it says: every mark that a flush covered is in the bitmap, or where it says so, with its data in the log of the
 * journal with the same nonce (live/flush-log.ts); and the marks since then are in that journal, provided that the machine
 * has not been started anew since, and that neither file is an older copy (live/journal.ts). No content scan is needed.
 */
import { crc32 } from "node:zlib";
import type { CowHead } from "../head.ts";
import { headLayout } from "../layout.ts";

/** Set in the head's flags while the stamp is valid. The driver and cowrepair write flags without it. */
export const FLAG_LIVE = 0x4000;

export const STAMP_BYTES = 64;
/** Head and stamp must reach the disk together: both are in the first sector. */
export const STAMP_SECTOR_BYTES = 512;
const MAGIC = 0x43574c56; // "CWLV"
const VERSION = 1;
export const NONCE_BYTES = 16;
const FLAGS_AT = 40;
const LOG_DONE_AT = 44;
const GENERATION_AT = 48;
/** The upper 16 bits of the record number at LOG_DONE_AT. */
const LOG_DONE_HIGH_AT = 54;
/** A flag of the stamp. */
const USES_LOG = 1;

export interface LiveStamp {
  /** Names the session; its journal has the same. */
  readonly nonce: Uint8Array;
  /** The machine's boot id in which the session ran; all zeros where there is none. */
  readonly boot: Uint8Array;
  /** Its offset in the head block. */
  readonly offset: number;
  /** Did a flush go to the journal's log? Then the journal is needed after a power cut, too. */
  readonly usesLog: boolean;
  /** Records of the log up to this number have their data durable in its place; below 2^48. */
  readonly logDone: number;
  /**
   * Grows while the session writes, always here before it grows in the journal: a cowfile whose generation is lower than
   * its journal's is an older copy. 0 where it was never written; below 2^40.
   */
  readonly generation: number;
}

function checksum(bytes: Uint8Array): number {
  return crc32(bytes.subarray(0, STAMP_BYTES - 4));
}

/** The stamp of a head block, if it has a valid one. */
export function readStamp(head: CowHead, headBlock: Uint8Array): LiveStamp | undefined {
  if ((head.flags & FLAG_LIVE) === 0) return undefined;
  for (let offset = STAMP_BYTES; offset + STAMP_BYTES <= STAMP_SECTOR_BYTES; offset += STAMP_BYTES) {
    const bytes = headBlock.slice(offset, offset + STAMP_BYTES);
    const view = new DataView(bytes.buffer);
    if (view.getUint32(0) !== MAGIC || view.getUint32(4) !== VERSION) continue;
    if (view.getUint32(STAMP_BYTES - 4) !== checksum(bytes)) continue;
    const usesLog = (view.getUint32(FLAGS_AT) & USES_LOG) !== 0;
    const logDone = view.getUint16(LOG_DONE_HIGH_AT) * 2 ** 32 + view.getUint32(LOG_DONE_AT);
    const generation = view.getUint16(GENERATION_AT) * 2 ** 32 + view.getUint32(GENERATION_AT + 2);
    return { nonce: bytes.slice(8, 24), boot: bytes.slice(24, 40), offset, usesLog, logDone, generation };
  }
  return undefined;
}

/** A free place for a stamp in the first sector of the head block, or undefined if others have filled it. */
export function freeStampOffset(head: CowHead, headBlock: Uint8Array): number | undefined {
  const from = Math.ceil(headLayout(head.abi).sizeBytes / STAMP_BYTES) * STAMP_BYTES;
  for (let offset = STAMP_SECTOR_BYTES - STAMP_BYTES; offset >= from; offset -= STAMP_BYTES) {
    if (headBlock.subarray(offset, offset + STAMP_BYTES).every((byte) => byte === 0)) return offset;
  }
  return undefined;
}

/** Removes every stamp of ours from `headBlock`, including invalid ones. */
export function clearStamps(headBlock: Uint8Array): void {
  for (let offset = STAMP_BYTES; offset + STAMP_BYTES <= STAMP_SECTOR_BYTES; offset += STAMP_BYTES) {
    const bytes = headBlock.subarray(offset, offset + STAMP_BYTES);
    const view = new DataView(bytes.buffer, bytes.byteOffset, STAMP_BYTES);
    if (view.getUint32(0) !== MAGIC || view.getUint32(STAMP_BYTES - 4) !== checksum(bytes)) continue;
    bytes.fill(0);
  }
}

/** Writes the stamp into `headBlock`. */
export function writeStamp(stamp: LiveStamp, headBlock: Uint8Array): void {
  const bytes = headBlock.subarray(stamp.offset, stamp.offset + STAMP_BYTES);
  bytes.fill(0);
  const view = new DataView(bytes.buffer, bytes.byteOffset, STAMP_BYTES);
  view.setUint32(0, MAGIC);
  view.setUint32(4, VERSION);
  bytes.set(stamp.nonce, 8);
  bytes.set(stamp.boot, 24);
  view.setUint32(FLAGS_AT, stamp.usesLog ? USES_LOG : 0);
  view.setUint32(LOG_DONE_AT, stamp.logDone % 2 ** 32);
  view.setUint16(GENERATION_AT, Math.floor(stamp.generation / 2 ** 32));
  view.setUint32(GENERATION_AT + 2, stamp.generation % 2 ** 32);
  view.setUint16(LOG_DONE_HIGH_AT, Math.floor(stamp.logDone / 2 ** 32));
  view.setUint32(STAMP_BYTES - 4, checksum(bytes));
}

/** Removes the stamp: the bytes were zero before. */
export function clearStamp(stamp: LiveStamp, headBlock: Uint8Array): void {
  headBlock.fill(0, stamp.offset, stamp.offset + STAMP_BYTES);
}

/** Was the stamp made since the machine was started? Unknown for a boot id of zeros. */
export function isOfThisBoot(stamp: LiveStamp, boot: Uint8Array): boolean {
  return boot.some((byte) => byte !== 0) && stamp.boot.every((byte, i) => byte === boot[i]);
}
