/**
 * Owns the codec of the live journal, `COWFILE.cowtool-live`: which blocks were newly marked since the bitmap on disk was
 * last made durable. It is written without fsync, before the reply to the write that marked the blocks: it outlives the
 * process in the page cache, together with the data it speaks of. It counts only for the cowfile whose stamp has its
 * nonce, and only until the machine is started anew; after that the bitmap alone counts, which moves only at a flush.
 *
 * Layout: a header block of 4096 bytes, then two halves of equal size, each a row of entries of 16 bytes in any order.
 * An entry says "these blocks are in the data area", which stays true: none is ever taken back, and old ones do no harm.
 *
 * Behind the halves lies the flush log (flush-log.ts), which is another matter: it is fsynced, and counts after a power cut.
 *
 *     header:  magic u32, version u32, nonce 16 bytes, slots of a half u32, crc32 of that
 *     entry:   first block (low 32 bits), first block (high 8 bits) | count << 8, two words of checksum with the nonce
 */
import { crc32 } from "node:zlib";
import type { ByteSource } from "../../../bytes/byte-source.ts";
import { type FoundLog, readLog } from "./flush-log.ts";
import { NONCE_BYTES } from "./stamp.ts";

export const JOURNAL_SUFFIX = ".cowtool-live";
export const JOURNAL_HEADER_BYTES = 4096;
export const ENTRY_BYTES = 16;
/** The most blocks that one entry names. */
export const MAX_ENTRY_BLOCKS = 0xff_ffff;
const MAGIC = 0x43574c4a;
/** How a journal begins: its magic, a byte a character. */
export const JOURNAL_BEGINNING = "CWLJ";
const VERSION = 2;
const HEADER_FIELDS_BYTES = 28;
const MAX_SLOTS = 1 << 26;
const PIECE_BYTES = 256 * 1024;

/** The name of a cowfile's journal. */
export function journalPath(cowfile: string): string {
  return cowfile + JOURNAL_SUFFIX;
}

export interface JournalHeader {
  readonly nonce: Uint8Array;
  /** Entries that fit into each half. */
  readonly slotsPerHalf: number;
}

export function encodeJournalHeader(header: JournalHeader): Uint8Array {
  const bytes = new Uint8Array(JOURNAL_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC);
  view.setUint32(4, VERSION);
  bytes.set(header.nonce, 8);
  view.setUint32(24, header.slotsPerHalf);
  view.setUint32(28, crc32(bytes.subarray(0, HEADER_FIELDS_BYTES)));
  return bytes;
}

/** The header, or undefined for what is no journal. */
function decodeJournalHeader(bytes: Uint8Array): JournalHeader | undefined {
  if (bytes.length < JOURNAL_HEADER_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0) !== MAGIC || view.getUint32(4) !== VERSION) return undefined;
  if (view.getUint32(28) !== crc32(bytes.subarray(0, HEADER_FIELDS_BYTES))) return undefined;
  const slotsPerHalf = view.getUint32(24);
  if (slotsPerHalf === 0 || slotsPerHalf > MAX_SLOTS) return undefined;
  return { nonce: new Uint8Array(bytes.subarray(8, 8 + NONCE_BYTES)), slotsPerHalf };
}

/** Encodes and recognises the entries of one journal. */
export class EntryCodec {
  readonly #seedA: number;
  readonly #seedB: number;

  constructor(nonce: Uint8Array) {
    const view = new DataView(nonce.buffer, nonce.byteOffset, nonce.byteLength);
    this.#seedA = view.getUint32(0) ^ view.getUint32(8);
    this.#seedB = view.getUint32(4) ^ view.getUint32(12);
  }

  /** Writes one entry; `count` is 1 to MAX_ENTRY_BLOCKS, `first` below 2^40. */
  encode(first: number, count: number, words: Uint32Array, at: number): void {
    const low = first >>> 0;
    const high = ((first - low) / 2 ** 32 + count * 256) >>> 0;
    words[at] = low;
    words[at + 1] = high;
    words[at + 2] = mix(low, high, this.#seedA);
    words[at + 3] = mix(high, low, this.#seedB);
  }

  /** The entry at word `at`, or undefined for an unused, torn or foreign slot. */
  decode(words: Uint32Array, at: number): BlockRun | undefined {
    const low = words[at] ?? 0;
    const high = words[at + 1] ?? 0;
    if (high === 0 || words[at + 2] !== mix(low, high, this.#seedA) || words[at + 3] !== mix(high, low, this.#seedB)) {
      return undefined;
    }
    return { first: low + (high & 0xff) * 2 ** 32, count: high >>> 8 };
  }
}

/** Two 32-bit words and a seed to one, every bit of which depends on all of theirs (murmur3's mixing). */
function mix(a: number, b: number, seed: number): number {
  let h = Math.imul(a ^ seed, 0xcc9e2d51);
  h = Math.imul((h << 15) | (h >>> 17), 0x1b873593) ^ b;
  h = Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Blocks that were marked together. */
export interface BlockRun {
  readonly first: number;
  readonly count: number;
}

/** Where the flush log begins in a journal. */
export function logOffset(slotsPerHalf: number): number {
  return JOURNAL_HEADER_BYTES + 2 * slotsPerHalf * ENTRY_BYTES;
}

function ownHeader(journal: ByteSource, nonce: Uint8Array): JournalHeader | undefined {
  const headBytes = new Uint8Array(JOURNAL_HEADER_BYTES);
  const header = decodeJournalHeader(headBytes.subarray(0, journal.read(headBytes, 0)));
  return header?.nonce.every((byte, i) => byte === nonce[i]) ? header : undefined;
}

/** Every run that a journal names, in any order, some more than once; undefined if it is no journal of that session. */
export function journalRuns(journal: ByteSource, nonce: Uint8Array): readonly BlockRun[] | undefined {
  const header = ownHeader(journal, nonce);
  return header && [...entriesOf(journal, header)];
}

/** The flush log in a journal; undefined if it is no journal of that session. */
export function journalLog(journal: ByteSource, nonce: Uint8Array): FoundLog | undefined {
  const header = ownHeader(journal, nonce);
  return header && readLog(journal, logOffset(header.slotsPerHalf), nonce);
}

function* entriesOf(journal: ByteSource, header: JournalHeader): Generator<BlockRun> {
  const { nonce } = header;
  const codec = new EntryCodec(nonce);
  const words = new Uint32Array(PIECE_BYTES / 4);
  const end = Math.min(journal.sizeBytes, JOURNAL_HEADER_BYTES + 2 * header.slotsPerHalf * ENTRY_BYTES);
  for (const extent of journal.dataExtents(JOURNAL_HEADER_BYTES, end)) {
    const from = extent.offset - (extent.offset % ENTRY_BYTES);
    for (let at = from; at < extent.offset + extent.length; at += PIECE_BYTES) {
      const bytes = new Uint8Array(words.buffer, 0, Math.min(PIECE_BYTES, end - at));
      bytes.fill(0, journal.read(bytes, at));
      for (let slot = 0; slot < Math.floor(bytes.length / 4); slot += 4) {
        const entry = codec.decode(words, slot);
        if (entry) yield entry;
      }
    }
  }
}
