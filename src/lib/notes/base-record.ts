/**
 * Owns the format of the base record: one small JSON document, every field of which is checked before it is believed.
 * It contains no file names.
 */
import { type Extent, inOrder } from "../bytes/extent.ts";
import { BLOCK_BYTES } from "../formats/cowfile/layout.ts";

/** More than the largest record, which has MAX_CHUNKS chunks. */
export const RECORD_LIMIT_BYTES = 4 << 20;
export const MIN_CHUNK_BYTES = 4096;
const MAX_CHUNK_BYTES = 2 ** 40;
const MAX_FILES = 65;
/** 128 bits of a SHA-256, in hex. */
export const DIGEST_DIGITS = 32;
const NO_DIGIT = /[^0-9a-f]/;
/** Nanoseconds since 1970; before that they are negative. */
const NANOSECONDS = /^-?[0-9]{1,20}$/;
const FINGERPRINT = /^0x[0-9a-f]{8}$/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const FILE_ID = /^[0-9]{1,20}:-?[0-9]{1,20}$/;

/** Changes with every write to a file. */
export interface FileTimes {
  readonly size: number;
  readonly mtime_ns: string;
  readonly ctime_ns: string;
}

/** The content of a base in chunks: those of `data` have a digest, those of `unread` are unknown, all others are zeros. */
export interface ContentRecord {
  readonly chunk_bytes: number;
  /** Runs of chunks: the first one's number, and their digests, one after the other. Ascending. */
  readonly data: readonly (readonly [first: number, digests: string])[];
  /** Runs of chunks that were not read: number of the first, count. Ascending. */
  readonly unread: readonly (readonly [first: number, count: number])[];
}

export interface BaseRecord extends ContentRecord {
  readonly cowtool_base: 1;
  /** When the base was read, and when this record was written. */
  readonly recorded: string;
  readonly written: string;
  /** The cowfile that this is about: its identity of the base, and (null if unknown) inode and birth of its file. */
  readonly cowfile: { readonly fingerprint: string; readonly rdo_blocks: number; readonly id: string | null };
  readonly base_size: number;
  /** For each file of the base, bottom to top; null if there are no such times, or they are not reliable. */
  readonly files: readonly (FileTimes | null)[];
  readonly hash: "sha256-128";
  /** A merge of the cowfile into the base was begun: the base may have its blocks. */
  readonly merged: boolean;
  /** Inode and birth of the record's own file: a copy has others. Null where unknown; older versions did not write it. */
  readonly own_id?: string | null;
}

/** Why a file is not a record. A newer version must be kept. */
export interface NoRecord {
  readonly why: string;
  readonly isNewer: boolean;
}

export function decodeRecord(bytes: Uint8Array): BaseRecord | NoRecord {
  const value = parseJson(bytes);
  if (!isObject(value)) return { why: "it is not the JSON that cowtool writes", isNewer: false };
  const version = value["cowtool_base"];
  if (isCount(version) && version > 1) return { why: `a newer cowtool wrote it (version ${version})`, isNewer: true };
  return isRecord(value) ? value : { why: "what it says contradicts itself", isNewer: false };
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    return undefined;
  }
}

type Fields = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isText(value: unknown, pattern: RegExp): value is string {
  return typeof value === "string" && pattern.test(value);
}

function isTime(value: unknown): value is string {
  return isText(value, TIME) && !Number.isNaN(Date.parse(value));
}

function isRecord(value: Fields): value is Fields & BaseRecord {
  const { cowfile, files } = value;
  return (
    value["cowtool_base"] === 1 &&
    value["hash"] === "sha256-128" &&
    typeof value["merged"] === "boolean" &&
    isTime(value["recorded"]) &&
    isTime(value["written"]) &&
    isCount(value["base_size"]) &&
    isObject(cowfile) &&
    isText(cowfile["fingerprint"], FINGERPRINT) &&
    isCount(cowfile["rdo_blocks"]) &&
    Number.isSafeInteger(cowfile["rdo_blocks"] * BLOCK_BYTES) &&
    (cowfile["id"] === null || isText(cowfile["id"], FILE_ID)) &&
    (value["own_id"] === undefined || value["own_id"] === null || isText(value["own_id"], FILE_ID)) &&
    Array.isArray(files) &&
    files.length <= MAX_FILES &&
    files.every((file) => file === null || isFileTimes(file)) &&
    isContent(value, cowfile["rdo_blocks"] * BLOCK_BYTES)
  );
}

function isFileTimes(value: unknown): value is FileTimes {
  return (
    isObject(value) &&
    isCount(value["size"]) &&
    isText(value["mtime_ns"], NANOSECONDS) &&
    isText(value["ctime_ns"], NANOSECONDS)
  );
}

function isContent(value: Fields, imageBytes: number): boolean {
  const { chunk_bytes: chunkBytes, data, unread } = value;
  if (!isCount(chunkBytes) || chunkBytes < MIN_CHUNK_BYTES || chunkBytes > MAX_CHUNK_BYTES) return false;
  if (!Number.isInteger(Math.log2(chunkBytes)) || !Array.isArray(data) || !Array.isArray(unread)) return false;
  const dataRuns = runsOf(data, digestCount);
  const unreadRuns = runsOf(unread, (count) => isCount(count) && count);
  if (!dataRuns || !unreadRuns) return false;
  return isAscending(inOrder(dataRuns, unreadRuns), Math.ceil(imageBytes / chunkBytes));
}

/** How many digests a text is, without a look at each by itself: a large base has thousands, in the record of each cowfile. */
function digestCount(digests: unknown): number | false {
  if (typeof digests !== "string" || digests.length % DIGEST_DIGITS !== 0 || NO_DIGIT.test(digests)) return false;
  return digests.length / DIGEST_DIGITS;
}

/** Runs of chunks, or undefined if one of them is none. @param countOf of a run's second member; false or 0 if it is none */
function runsOf(list: readonly unknown[], countOf: (member: unknown) => number | false): Extent[] | undefined {
  const runs: Extent[] = [];
  for (const item of list as readonly unknown[]) {
    if (!Array.isArray(item) || item.length !== 2) return undefined;
    const [first, member] = item as readonly unknown[];
    const length = countOf(member);
    if (!isCount(first) || !length) return undefined;
    runs.push({ offset: first, length });
  }
  return runs;
}

function isAscending(runs: Iterable<Extent>, end: number): boolean {
  let at = 0;
  for (const { offset, length } of runs) {
    if (offset < at || offset + length > end) return false;
    at = offset + length;
  }
  return true;
}
