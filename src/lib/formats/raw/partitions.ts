/**
 * Owns reading partition tables, MBR with logical partitions and GPT: bounded, as they come from inside an image.
 */
import { crc32 } from "node:zlib";
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";

export interface Partition {
  readonly number: number;
  /** In bytes of the disk. */
  readonly offset: number;
  readonly size: number;
  /** What the table says it is for; of unknown ones the number or GUID. */
  readonly type: string;
  readonly name: string | null;
}

export interface PartitionTable {
  readonly kind: "mbr" | "gpt";
  readonly partitions: readonly Partition[];
  /** The table has more, or is longer than what is looked at. */
  readonly isCut: boolean;
}

const SECTOR_BYTES = 512;
const SECTOR_SIZES = [512, 4096];
const MAX_PARTITIONS = 128;
/** Extended boot records that are followed, empty ones too. */
const MAX_RECORDS = 1024;
/** Bytes of the entries of a GPT that are read. */
const MAX_ENTRY_BYTES = 1 << 20;
const ENTRIES_AT = 446;
const ENTRY_BYTES = 16;
const PROTECTIVE = 0xee;
const EXTENDED = [0x05, 0x0f, 0x85];

const MBR_TYPES: Readonly<Record<number, string>> = {
  1: "FAT12",
  4: "FAT16",
  6: "FAT16",
  7: "NTFS or exFAT",
  11: "FAT32",
  12: "FAT32",
  14: "FAT16",
  130: "Linux swap",
  131: "Linux",
  142: "Linux LVM",
  239: "EFI system",
  253: "Linux RAID",
};

const GPT_TYPES: Readonly<Record<string, string>> = {
  "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system",
  "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
  "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux",
  "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)",
  "b921b045-1df0-41c3-af44-4c6f280d3fae": "Linux root (ARM64)",
  "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
  "e6d6d379-f507-44c2-a23c-237f2a3df928": "Linux LVM",
  "a19d880f-05fc-4d3b-a006-743f0f84911e": "Linux RAID",
  "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "Microsoft basic data",
  "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
};

function bytesAt(source: ByteSource, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  readZeroFilled(source, bytes, offset);
  return bytes;
}

interface Entry {
  readonly type: number;
  /** In sectors. */
  readonly start: number;
  readonly count: number;
}

/** The four entries of a boot record; undefined where it is none. */
function entriesOf(sector: Buffer): readonly Entry[] | undefined {
  if (sector.readUInt16LE(510) !== 0xaa55) return undefined;
  const entries: Entry[] = [];
  for (let at = ENTRIES_AT; at < 510; at += ENTRY_BYTES) {
    const [status = 0, type = 0] = [sector[at], sector[at + 4]];
    if ((status & 0x7f) !== 0) return undefined;
    entries.push({ type, start: sector.readUInt32LE(at + 8), count: sector.readUInt32LE(at + 12) });
  }
  return entries.some(({ type, count }) => type !== 0 && count > 0) ? entries : undefined;
}

function partitionOf({ type, start, count }: Entry, number: number, from = 0): Partition {
  const name = MBR_TYPES[type] ?? `0x${type.toString(16).padStart(2, "0")}`;
  return { number, offset: (from + start) * SECTOR_BYTES, size: count * SECTOR_BYTES, type: name, name: null };
}

function isExtended({ type, count }: Entry): boolean {
  return EXTENDED.includes(type) && count > 0;
}

/**
 * The logical partitions of an extended one, from 5 on, at most `most`. Boot records may be in any order on the disk, and one
 * without a partition of its own takes no number.
 */
function logicalOf(source: ByteSource, extended: Entry, most: number): Omit<PartitionTable, "kind"> {
  const partitions: Partition[] = [];
  const visited = new Set<number>();
  for (let at = extended.start; !visited.has(at); ) {
    if (visited.size === MAX_RECORDS) return { partitions, isCut: true };
    visited.add(at);
    const record = entriesOf(bytesAt(source, at * SECTOR_BYTES, SECTOR_BYTES)) ?? [];
    for (const entry of record.slice(0, 2)) {
      if (entry.count === 0 || isExtended(entry)) continue;
      if (partitions.length === most) return { partitions, isCut: true };
      partitions.push(partitionOf(entry, 5 + partitions.length, at));
    }
    const next = record.find(isExtended);
    if (!next) break;
    at = extended.start + next.start;
  }
  return { partitions, isCut: false };
}

function guidOf(bytes: Buffer): string {
  const [a, b, c] = [bytes.readUInt32LE(0), bytes.readUInt16LE(4), bytes.readUInt16LE(6)];
  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");
  return `${hex(a, 8)}-${hex(b, 4)}-${hex(c, 4)}-${bytes.toString("hex", 8, 10)}-${bytes.toString("hex", 10, 16)}`;
}

function gptOf(source: ByteSource, sectorBytes: number): PartitionTable | undefined {
  const header = bytesAt(source, sectorBytes, SECTOR_BYTES);
  if (header.toString("latin1", 0, 8) !== "EFI PART") return undefined;
  const headerBytes = header.readUInt32LE(12);
  const [entriesAt, count, entryBytes] = [header.readBigUInt64LE(72), header.readUInt32LE(80), header.readUInt32LE(84)];
  if (headerBytes < 92 || headerBytes > SECTOR_BYTES || entryBytes < 128 || entryBytes > 4096) return undefined;
  const checked = Buffer.from(header.subarray(0, headerBytes));
  checked.writeUInt32LE(0, 16);
  if (crc32(checked) !== header.readUInt32LE(16)) return undefined;
  const looked = Math.min(count, Math.floor(MAX_ENTRY_BYTES / entryBytes));
  const entries = bytesAt(source, Number(entriesAt) * sectorBytes, looked * entryBytes);
  const partitions: Partition[] = [];
  for (let at = 0; at < entries.length; at += entryBytes) {
    const entry = entries.subarray(at, at + entryBytes);
    const type = guidOf(entry);
    const [first, last] = [Number(entry.readBigUInt64LE(32)), Number(entry.readBigUInt64LE(40))];
    if (/^[0-]+$/.test(type) || last < first || !Number.isSafeInteger(last * sectorBytes)) continue;
    if (partitions.length === MAX_PARTITIONS) return { kind: "gpt", partitions, isCut: true };
    const [name = ""] = entry.toString("utf16le", 56, 128).split("\0");
    const size = (last - first + 1) * sectorBytes;
    const number = at / entryBytes + 1;
    partitions.push({ number, offset: first * sectorBytes, size, type: GPT_TYPES[type] ?? type, name: name || null });
  }
  return { kind: "gpt", partitions, isCut: count > looked };
}

/** The partition table of a disk, if it has one that can be read. @throws CowError `io` */
export function partitionsOf(source: ByteSource): PartitionTable | undefined {
  const entries = entriesOf(bytesAt(source, 0, SECTOR_BYTES));
  if (!entries) return undefined;
  if (entries.some(({ type }) => type === PROTECTIVE))
    for (const sectorBytes of SECTOR_SIZES) {
      const table = gptOf(source, sectorBytes);
      if (table) return table;
    }
  const used = entries
    .map((entry, i) => ({ entry, number: i + 1 }))
    .filter(({ entry }) => entry.type !== 0 && entry.count > 0);
  const primary = used.map(({ entry, number }) =>
    isExtended(entry) ? { ...partitionOf(entry, number), type: "extended" } : partitionOf(entry, number),
  );
  const extended = entries.find(isExtended);
  const logical = extended && logicalOf(source, extended, MAX_PARTITIONS - primary.length);
  return {
    kind: "mbr",
    partitions: [...primary, ...(logical?.partitions ?? [])],
    isCut: logical?.isCut ?? false,
  };
}
