/**
 * Owns gzip packs as streams: members written several at a time, and read one after the other, whoever wrote them.
 */
import { Readable } from "node:stream";
import { promisify } from "node:util";
import { createGunzip, gzip } from "node:zlib";
import type { ByteSource } from "../../../bytes/byte-source.ts";
import { atByte, CowError, errnoName } from "../../../errors.ts";

const READ_BYTES = 256 * 1024;
/** Payload in a member: enough that the restart of the compressor costs under half a percent. */
export const MEMBER_BYTES = 1 << 20;

/** What does not compress grows a little; room for it makes one piece of each member. */
const CHUNK_SLACK_BYTES = 64 * 1024;

const compress = promisify(gzip);

/** One member; the same bytes for the same input on every machine. */
export function gzipMember(content: Uint8Array, level: number): Promise<Uint8Array> {
  return compress(content, { level, chunkSize: MEMBER_BYTES + CHUNK_SLACK_BYTES });
}

/**
 * The content of all members, checked by gzip's own checksums. What follows the last member, if it is none, is ignored,
 * as gzip does.
 *
 * @throws CowError `truncated`, `damaged`, naming the offset
 */
export async function* gunzipStream(source: ByteSource): AsyncGenerator<Uint8Array> {
  const gunzip = createGunzip({ chunkSize: READ_BYTES });
  const input = Readable.from(compressedPieces(source), { objectMode: false, highWaterMark: READ_BYTES });
  input.on("error", (error) => gunzip.destroy(error));
  try {
    for await (const chunk of input.pipe(gunzip)) yield chunk as Uint8Array;
  } catch (cause) {
    if (cause instanceof CowError) throw cause;
    const at = atByte(Math.min(gunzip.bytesWritten, source.sizeBytes));
    if (errnoName(cause) === "Z_BUF_ERROR") {
      throw new CowError("truncated", `the gzip stream ends too early, at ${atByte(source.sizeBytes)}`, {
        file: source.name,
        cause,
      });
    }
    throw new CowError(
      "damaged",
      `the gzip stream is damaged before ${at}: ${cause instanceof Error ? cause.message : String(cause)}`,
      {
        file: source.name,
        cause,
      },
    );
  } finally {
    gunzip.destroy();
    input.destroy();
  }
}

function* compressedPieces(source: ByteSource): Generator<Uint8Array> {
  for (let at = 0; at < source.sizeBytes; at += READ_BYTES) {
    const piece = new Uint8Array(Math.min(READ_BYTES, source.sizeBytes - at));
    yield piece.subarray(0, source.read(piece, at));
  }
}
