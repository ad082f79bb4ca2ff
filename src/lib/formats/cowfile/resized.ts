/**
 * Owns the note of a resize: 64 bytes in the second sector of the head block, where the original driver and cowrepair keep
 * what they find. It says how many blocks the base has, which the head of a resized cowfile no longer tells. Such a cowfile
 * fits that base, and a base of its own size. The note counts only for the head that it was written for: a program that
 * gives the cowfile another base makes it void.
 */
import { crc32 } from "node:zlib";
import type { BaseIdentity } from "../format.ts";
import { type CowHead, fingerprint32 } from "./head.ts";
import { BLOCK_BYTES } from "./layout.ts";

const RESIZED_OFFSET_BYTES = 512;
const NOTE_BYTES = 64;
const MAGIC = 0x43575253; // "CWRS"
const VERSION = 1;
const IMAGE_BLOCKS_AT = 8;
const BASE_BLOCKS_AT = 16;
const FINGERPRINT_AT = 24;
const CRC_AT = NOTE_BYTES - 4;

/** The blocks of the base that a resized cowfile was made for; undefined for a cowfile as long as its base. */
export function readResized(head: CowHead, headBlock: Uint8Array): number | undefined {
  const bytes = headBlock.subarray(RESIZED_OFFSET_BYTES, RESIZED_OFFSET_BYTES + NOTE_BYTES);
  if (bytes.length < NOTE_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, NOTE_BYTES);
  if (view.getUint32(0) !== MAGIC || view.getUint32(4) !== VERSION) return undefined;
  if (view.getUint32(CRC_AT) !== crc32(bytes.subarray(0, CRC_AT))) return undefined;
  const isOfHead =
    view.getBigUint64(IMAGE_BLOCKS_AT) === head.rdoBlocks && view.getUint32(FINGERPRINT_AT) === fingerprint32(head);
  return isOfHead ? Number(view.getBigUint64(BASE_BLOCKS_AT)) : undefined;
}

/** Writes the note for a head that is in `headBlock`. */
export function writeResized(head: CowHead, baseBlocks: number, headBlock: Uint8Array): void {
  const bytes = headBlock.subarray(RESIZED_OFFSET_BYTES, RESIZED_OFFSET_BYTES + NOTE_BYTES);
  bytes.fill(0);
  const view = new DataView(bytes.buffer, bytes.byteOffset, NOTE_BYTES);
  view.setUint32(0, MAGIC);
  view.setUint32(4, VERSION);
  view.setBigUint64(IMAGE_BLOCKS_AT, head.rdoBlocks);
  view.setBigUint64(BASE_BLOCKS_AT, BigInt(baseBlocks));
  view.setUint32(FINGERPRINT_AT, fingerprint32(head));
  view.setUint32(CRC_AT, crc32(bytes.subarray(0, CRC_AT)));
}

export function clearResized(headBlock: Uint8Array): void {
  headBlock.fill(0, RESIZED_OFFSET_BYTES, RESIZED_OFFSET_BYTES + NOTE_BYTES);
}

/** What a cowfile says of its base. */
export function identityOf(head: CowHead, headBlock: Uint8Array): BaseIdentity {
  const own = exactNumber(head.rdoBlocks);
  const resized = readResized(head, headBlock);
  const identity = { blocks: resized ?? own, blockBytes: BLOCK_BYTES, fingerprint: fingerprint32(head) };
  return resized === undefined ? identity : { ...identity, resizedBlocks: Number(own) };
}

function exactNumber(value: bigint): number | bigint {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
}
