/**
 * Owns zstd packs by the book, and against it: any frames under any seek table, with checksums that fit, as somebody with
 * bad intentions would make them; and a reading of the public format of its own. Must not use the library's codec.
 */
import { createHash } from "node:crypto";
import { constants, zstdCompressSync } from "node:zlib";

const TABLE_MAGIC = 0x184d2a5e;
const DIGEST_MAGIC = 0x184d2a50;
const SEEKABLE_MAGIC = 0x8f92eab1;
const DIGEST_TAG = "cowtool1";

/** One zstd frame with a checksum. */
export function frameOf(content: Uint8Array, params: Readonly<Record<number, number>> = {}): Buffer {
  return zstdCompressSync(content, { params: { [constants.ZSTD_c_checksumFlag]: 1, ...params } });
}

export interface Row {
  readonly frame: Uint8Array;
  /** What the table says of it, where that is not the truth. */
  readonly compressedBytes?: number;
  readonly contentBytes: number;
  readonly checksum?: number;
}

export interface Lies {
  readonly frameCount?: number;
  readonly descriptor?: number;
  readonly tableSize?: number;
  readonly digest?: Uint8Array;
  readonly withoutDigest?: true;
}

function u32(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value >>> 0, i * 4);
  return bytes;
}

function skippable(magic: number, content: Uint8Array, size = content.length): Buffer {
  return Buffer.concat([u32(magic, size), content]);
}

/** Frames, digest, table. */
export function containerOf(rows: readonly Row[], lies: Lies = {}): Buffer {
  const entries = rows.map(({ frame, compressedBytes = frame.length, contentBytes, checksum }) =>
    u32(compressedBytes, contentBytes, checksum ?? Buffer.from(frame).readUInt32LE(frame.length - 4)),
  );
  const footer = Buffer.concat([
    u32(lies.frameCount ?? rows.length),
    Buffer.of(lies.descriptor ?? 0x80),
    u32(SEEKABLE_MAGIC),
  ]);
  const table = skippable(TABLE_MAGIC, Buffer.concat([...entries, footer]), lies.tableSize);
  const frames = Buffer.concat(rows.map(({ frame }) => frame));
  const sha256 = lies.digest ?? createHash("sha256").update(frames).update(table).digest();
  const digest = skippable(DIGEST_MAGIC, Buffer.concat([Buffer.from(DIGEST_TAG), sha256]));
  return Buffer.concat([frames, ...(lies.withoutDigest ? [] : [digest]), table]);
}

/** A payload in honest frames of that size. */
export function honestRows(payload: Uint8Array, frameBytes: number): Row[] {
  const rows: Row[] = [];
  for (let at = 0; at < payload.length; at += frameBytes) {
    const content = payload.subarray(at, at + frameBytes);
    rows.push({ frame: frameOf(content), contentBytes: content.length });
  }
  return rows;
}

export interface SeekableFrame {
  readonly offset: number;
  readonly compressedBytes: number;
  readonly contentBytes: number;
  readonly checksum: number;
}

/** Reads the seek table as zstd's seekable_format 0.1.0 describes it; throws where something is not as it says. */
export function readSeekTable(file: Buffer): readonly SeekableFrame[] {
  const must = (holds: boolean, what: string): void => {
    if (!holds) throw new Error(`not the seekable format: ${what}`);
  };
  must(file.readUInt32LE(file.length - 4) === SEEKABLE_MAGIC, "the last four bytes");
  must(file[file.length - 5] === 0x80, "the descriptor: checksums, no reserved bit");
  const count = file.readUInt32LE(file.length - 9);
  const at = file.length - 9 - 12 * count - 8;
  must(file.readUInt32LE(at) === TABLE_MAGIC, "the magic number of the table");
  must(file.readUInt32LE(at + 4) === 12 * count + 9, "the size of the table");
  const frames: SeekableFrame[] = [];
  for (let i = 0, offset = 0; i < count; i++) {
    const entry = at + 8 + 12 * i;
    const compressedBytes = file.readUInt32LE(entry);
    frames.push({
      offset,
      compressedBytes,
      contentBytes: file.readUInt32LE(entry + 4),
      checksum: file.readUInt32LE(entry + 8),
    });
    offset += compressedBytes;
  }
  return frames;
}
