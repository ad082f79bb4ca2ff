/**
 * Owns the codec of the live journal, `COWFILE.cowtool-live`: which blocks were allocated since the bitmap on disk was
 * last made durable. It is written without fsync, before the reply to the write that allocated them: it outlives the
 * process in the page cache, together with their data. It is valid only for the cowfile whose stamp has its
 * nonce, and only until a restart of the machine; then only the bitmap is valid, which changes only at a checkpoint.
 *
 * Layout: a header block of 4096 bytes, then two halves of equal size, each a row of entries of 16 bytes in any order.
 * An entry says "these blocks are in the data area", which stays true: none is ever taken back, and old ones do no harm.
 * An entry with the largest count is the generation that the session had reached (stamp.ts), in place of a block.
 *
 * After the halves comes the flush log (flush-log.ts), which is fsynced, and valid after a power cut.
 * Then come unallocated blocks that held data before the session began, which the session must not erase.
 *
 *     header:  magic u32, version u32, nonce 16 bytes, slots of a half u32; generation at the start u48 (bytes 28 to 33);
 *              bytes 36 and 40: count and crc32 of the kept runs, u32; byte 60: crc32 of the 60 bytes before.
 *              Version 2 has neither generation nor kept runs, and its crc32 at byte 28
 *     byte 512 "CWLS" and the nonce once the bitmap on disk has all that the journal says: then it is worth nothing any more
 *     entry:   first block (low 32 bits), first block (high 8 bits) | count << 8, two words of checksum with the nonce
 *     kept run: first block u64, count u64
 */
import { crc32 } from "node:zlib";
import type { ByteSource, ByteTarget } from "../../../bytes/byte-source.ts";
import { type FoundLog, LOG_BYTES, readLog } from "./flush-log.ts";
import { NONCE_BYTES } from "./stamp.ts";

export const JOURNAL_SUFFIX = ".cowtool-live";
export const JOURNAL_HEADER_BYTES = 4096;
export const ENTRY_BYTES = 16;
/** The most blocks that one entry names. */
export const MAX_ENTRY_BLOCKS = 0xff_fffe;
/** In place of a count: the entry is a generation. */
const IS_GENERATION = 0xff_ffff;
/** The most runs that are kept apart; more are joined, so that a few blocks between them are kept, too. */
export const MAX_KEPT_RUNS = 1 << 18;
const MAGIC = 0x43574c4a;
/** The first bytes of a journal: its magic, a byte a character. */
export const JOURNAL_BEGINNING = "CWLJ";
const VERSION = 3;
/** Without generations and kept runs. */
const OLD_VERSION = 2;
const CRC_AT = { 2: 28, 3: 60 } as const;
const GENERATION_AT = 28;
const KEPT_AT = 36;
const KEPT_BYTES = 16;
const SETTLED_AT = 512;
const SETTLED_MAGIC = 0x43574c53; // "CWLS"
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
  /** Of the stamp when the journal was made. */
  readonly generation: number;
  /** Unallocated blocks that held data before the session, ascending, at most MAX_KEPT_RUNS. */
  readonly kept: readonly BlockRun[];
}

function encodeKept(kept: readonly BlockRun[]): Uint8Array {
  const words = new DataView(new ArrayBuffer(kept.length * KEPT_BYTES));
  for (const [i, { first, count }] of kept.entries()) {
    words.setBigUint64(i * KEPT_BYTES, BigInt(first));
    words.setBigUint64(i * KEPT_BYTES + 8, BigInt(count));
  }
  return new Uint8Array(words.buffer);
}

/** Writes a journal's header, and the kept runs after its log. @throws CowError `io`, `no-space` */
export function writeJournalHeader(
  journal: ByteTarget,
  { nonce, slotsPerHalf, generation, kept }: JournalHeader,
): void {
  const runs = encodeKept(kept);
  if (runs.length > 0) journal.write(runs, logOffset(slotsPerHalf) + LOG_BYTES);
  const bytes = new Uint8Array(JOURNAL_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC);
  view.setUint32(4, VERSION);
  bytes.set(nonce, 8);
  view.setUint32(24, slotsPerHalf);
  view.setUint16(GENERATION_AT, Math.floor(generation / 2 ** 32));
  view.setUint32(GENERATION_AT + 2, generation % 2 ** 32);
  view.setUint32(KEPT_AT, kept.length);
  view.setUint32(KEPT_AT + 4, crc32(runs));
  view.setUint32(CRC_AT[VERSION], crc32(bytes.subarray(0, CRC_AT[VERSION])));
  journal.write(bytes, 0);
}

/** Records in a journal that the cowfile's bitmap has all of its blocks. */
export function writeSettled(journal: ByteTarget, nonce: Uint8Array): void {
  const bytes = new Uint8Array(4 + NONCE_BYTES);
  new DataView(bytes.buffer).setUint32(0, SETTLED_MAGIC);
  bytes.set(nonce, 4);
  journal.write(bytes, SETTLED_AT);
}

interface DecodedHeader extends Omit<JournalHeader, "kept"> {
  readonly version: keyof typeof CRC_AT;
  readonly keptCount: number;
  readonly keptCrc: number;
  readonly isSettled: boolean;
}

/** The header, or undefined if it is not a journal. */
function decodeJournalHeader(bytes: Uint8Array): DecodedHeader | undefined {
  if (bytes.length < JOURNAL_HEADER_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(4);
  if (view.getUint32(0) !== MAGIC || (version !== VERSION && version !== OLD_VERSION)) return undefined;
  const crcAt = CRC_AT[version];
  if (view.getUint32(crcAt) !== crc32(bytes.subarray(0, crcAt))) return undefined;
  const slotsPerHalf = view.getUint32(24);
  if (slotsPerHalf === 0 || slotsPerHalf > MAX_SLOTS) return undefined;
  const nonce = new Uint8Array(bytes.subarray(8, 8 + NONCE_BYTES));
  const isSettled =
    view.getUint32(SETTLED_AT) === SETTLED_MAGIC && nonce.every((byte, i) => bytes[SETTLED_AT + 4 + i] === byte);
  if (version === OLD_VERSION) {
    return { version, nonce, slotsPerHalf, generation: 0, keptCount: 0, keptCrc: crc32(""), isSettled };
  }
  const generation = view.getUint16(GENERATION_AT) * 2 ** 32 + view.getUint32(GENERATION_AT + 2);
  const [keptCount, keptCrc] = [view.getUint32(KEPT_AT), view.getUint32(KEPT_AT + 4)];
  return { version, nonce, slotsPerHalf, generation, keptCount, keptCrc, isSettled };
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

  /** Writes an entry that is a generation, below 2^40. */
  encodeGeneration(generation: number, words: Uint32Array, at: number): void {
    this.encode(generation, IS_GENERATION, words, at);
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

/** Blocks that were allocated together. */
export interface BlockRun {
  readonly first: number;
  readonly count: number;
}

/** Where the flush log begins in a journal. */
export function logOffset(slotsPerHalf: number): number {
  return JOURNAL_HEADER_BYTES + 2 * slotsPerHalf * ENTRY_BYTES;
}

/** The contents of a journal. */
export interface FoundJournal {
  readonly nonce: Uint8Array;
  /** Every run that it names, in any order, some more than once. */
  readonly runs: readonly BlockRun[];
  /** The generation that its session had reached at least; undefined for a journal without generations. */
  readonly generation: number | undefined;
  readonly log: FoundLog;
  /** See JournalHeader; undefined where that part is damaged. */
  readonly kept: readonly BlockRun[] | undefined;
  /** All of its blocks are in the bitmap. */
  readonly isSettled: boolean;
}

/** Reads a journal; undefined if it is not one, or with `nonce` if it is another session's. @throws CowError `io` */
export function readJournal(journal: ByteSource, nonce?: Uint8Array): FoundJournal | undefined {
  const headBytes = new Uint8Array(JOURNAL_HEADER_BYTES);
  const header = decodeJournalHeader(headBytes.subarray(0, journal.read(headBytes, 0)));
  if (!header || (nonce && !header.nonce.every((byte, i) => byte === nonce[i]))) return undefined;
  const runs: BlockRun[] = [];
  let { generation } = header;
  for (const entry of entriesOf(journal, header)) {
    if (header.version === VERSION && entry.count === IS_GENERATION) generation = Math.max(generation, entry.first);
    else runs.push(entry);
  }
  const logAt = logOffset(header.slotsPerHalf);
  return {
    nonce: header.nonce,
    runs,
    generation: header.version === OLD_VERSION ? undefined : generation,
    log: readLog(journal, logAt, header.nonce),
    kept: readKept(journal, logAt + LOG_BYTES, header),
    isSettled: header.isSettled,
  };
}

function readKept(
  journal: ByteSource,
  offset: number,
  { keptCount, keptCrc }: DecodedHeader,
): readonly BlockRun[] | undefined {
  if (keptCount > MAX_KEPT_RUNS) return undefined;
  const bytes = new Uint8Array(keptCount * KEPT_BYTES);
  if (journal.read(bytes, offset) !== bytes.length || crc32(bytes) !== keptCrc) return undefined;
  const view = new DataView(bytes.buffer);
  return Array.from({ length: keptCount }, (_, i) => ({
    first: Number(view.getBigUint64(i * KEPT_BYTES)),
    count: Number(view.getBigUint64(i * KEPT_BYTES + 8)),
  }));
}

function* entriesOf(journal: ByteSource, header: DecodedHeader): Generator<BlockRun> {
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
