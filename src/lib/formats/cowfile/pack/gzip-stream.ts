/**
 * Owns gzip packs as streams: members written several at a time, and any gzip members read one after the other. Members
 * are split here, because Node's gunzip reports bytes after the last one as damage.
 */
import { Readable } from "node:stream";
import { promisify } from "node:util";
import { crc32, createInflateRaw, gzip } from "node:zlib";
import type { ByteSource } from "../../../bytes/byte-source.ts";
import type { Pause } from "../../../context.ts";
import { atByte, CowError, errnoName } from "../../../errors.ts";

const READ_BYTES = 256 * 1024;
const FIRST_READ_BYTES = 4096;
const CHUNK_BYTES = 128 * 1024;
/** Payload in a member: enough that the restart of the compressor costs under half a percent. */
export const MEMBER_BYTES = 1 << 20;
/** Incompressible content grows a little; space for that makes each member one piece. */
const CHUNK_SLACK_BYTES = 64 * 1024;

/** RFC 1952: ten bytes, then the parts that the flags announce; after the data CRC-32 and length. */
const FIXED_HEADER_BYTES = 10;
const TRAILER_BYTES = 8;
const DEFLATE = 8;
const FLAG = { headerCrc: 2, extra: 4, name: 8, comment: 16, reserved: 0xe0 } as const;
const LARGEST_HEADER_BYTES = 128 * 1024;

/** One member; the same bytes for the same input on every machine. */
export function gzipMember(content: Uint8Array, level: number): Promise<Uint8Array> {
  return promisify(gzip)(content, { level, chunkSize: MEMBER_BYTES + CHUNK_SLACK_BYTES });
}

/**
 * The content of all members, compared with their checksums. Bytes after the last member are ignored, as by gzip.
 *
 * @param pause called for each member and each piece: there may be a million members that hold nothing
 * @throws CowError `truncated`, `damaged`, naming the offset
 */
export async function* gunzipStream(source: ByteSource, pause: Pause): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset === 0 || beginsMember(source, offset); ) {
    await pause();
    const dataOffset = offset + memberHeaderBytes(source, offset);
    offset = yield* inflateMember(source, dataOffset, pause);
  }
}

function beginsMember(source: ByteSource, offset: number): boolean {
  const magic = new Uint8Array(2);
  return source.read(magic, offset) === 2 && magic[0] === 0x1f && magic[1] === 0x8b;
}

function tooShort(source: ByteSource, where: string): CowError {
  const { sizeBytes } = source;
  return new CowError("truncated", `the gzip stream ends too early, at ${atByte(sizeBytes)}, ${where}`, {
    file: source.name,
    details: { offset: sizeBytes },
  });
}

/** How long the header of the member at `offset` is. */
function memberHeaderBytes(source: ByteSource, offset: number, atMost = FIRST_READ_BYTES): number {
  const bytes = new Uint8Array(Math.min(atMost, Math.max(0, source.sizeBytes - offset)));
  const header = bytes.subarray(0, source.read(bytes, offset));
  if (header.length < FIXED_HEADER_BYTES) throw tooShort(source, "inside a header");
  const flags = header[3] ?? 0;
  if (header[2] !== DEFLATE || (flags & FLAG.reserved) !== 0) {
    throw new CowError("damaged", `the gzip header at ${atByte(offset)} is damaged`, {
      file: source.name,
      details: { offset },
    });
  }
  let at = FIXED_HEADER_BYTES;
  if (flags & FLAG.extra) at += 2 + (header[at] ?? 0) + (header[at + 1] ?? 0) * 256;
  for (const flag of [FLAG.name, FLAG.comment]) {
    if (flags & flag) {
      const end = header.indexOf(0, at);
      at = end === -1 ? header.length + 1 : end + 1;
    }
  }
  if (flags & FLAG.headerCrc) at += 2;
  if (at <= header.length) return at;
  if (header.length === atMost && atMost < LARGEST_HEADER_BYTES)
    return memberHeaderBytes(source, offset, LARGEST_HEADER_BYTES);
  throw tooShort(source, "inside a header");
}

/** Yields a member's content. @returns the offset after it */
async function* inflateMember(
  source: ByteSource,
  dataOffset: number,
  pause: Pause,
): AsyncGenerator<Uint8Array, number> {
  const inflate = createInflateRaw({ chunkSize: CHUNK_BYTES });
  const input = Readable.from(piecesFrom(source, dataOffset), { objectMode: false, highWaterMark: READ_BYTES });
  input.on("error", (error) => inflate.destroy(error));
  let crc = 0;
  let length = 0;
  try {
    for await (const chunk of input.pipe(inflate)) {
      crc = crc32(chunk as Uint8Array, crc);
      length += (chunk as Uint8Array).length;
      yield chunk as Uint8Array;
      await pause();
    }
  } catch (cause) {
    if (cause instanceof CowError) throw cause;
    if (errnoName(cause) === "Z_BUF_ERROR") throw tooShort(source, "inside its data");
    const offset = Math.min(dataOffset + inflate.bytesWritten, source.sizeBytes);
    const words = cause instanceof Error ? cause.message : String(cause);
    throw new CowError("damaged", `the gzip stream is damaged before ${atByte(offset)}: ${words}`, {
      file: source.name,
      details: { offset },
      cause,
    });
  } finally {
    inflate.destroy();
    input.destroy();
  }
  return checkTrailer(source, dataOffset + inflate.bytesWritten, crc, length);
}

function checkTrailer(source: ByteSource, offset: number, crc: number, length: number): number {
  const trailer = new Uint8Array(TRAILER_BYTES);
  if (source.read(trailer, offset) < TRAILER_BYTES) throw tooShort(source, "inside a checksum");
  const view = new DataView(trailer.buffer);
  if (view.getUint32(0, true) !== crc || view.getUint32(4, true) !== length % 2 ** 32) {
    throw new CowError("damaged", `the content is not what the gzip checksum at ${atByte(offset)} says`, {
      file: source.name,
      details: { offset },
    });
  }
  return offset + TRAILER_BYTES;
}

/** Small pieces first: a file may consist of members of a few bytes each, and each starts again here. */
function* piecesFrom(source: ByteSource, offset: number): Generator<Uint8Array> {
  let size = FIRST_READ_BYTES;
  for (let at = offset; at < source.sizeBytes; ) {
    const piece = new Uint8Array(Math.min(size, source.sizeBytes - at));
    yield piece.subarray(0, source.read(piece, at));
    at += piece.length;
    size = Math.min(READ_BYTES, size * 4);
  }
}
