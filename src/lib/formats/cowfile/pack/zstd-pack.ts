/**
 * Owns zstd packs as containers: the index at the end, access to any byte of the payload, verification of the whole.
 * Does not know the payload.
 */
import { createHash, type Hash } from "node:crypto";
import { promisify } from "node:util";
import { type ZstdOptions, zstdDecompress, zstdDecompressSync } from "node:zlib";
import type { ByteSource } from "../../../bytes/byte-source.ts";
import { mapOrdered, release } from "../../../bytes/ordered.ts";
import {
  DIGEST_FRAME_BYTES,
  decodeDigestFrame,
  seekEntry,
  seekEntryCount,
  seekTableSize,
  TABLE_FOOTER_BYTES,
} from "../../../bytes/zstd-seekable.ts";
import { atByte, CowError } from "../../../errors.ts";

/** Payload bytes in a frame: small enough to reach one block at once, large enough to compress well. */
export const FRAME_BYTES = 1 << 20;
/** Our frames never hold more; a table that claims more is damaged, or a bomb. */
const LARGEST_FRAME_BYTES = 8 << 20;
/** The smallest possible frame: magic, header, one block, checksum. */
const SMALLEST_FRAME_BYTES = 12;
/** Incompressible content grows by less than this. */
const LARGEST_GROWTH_BYTES = 128 * 1024;
/** In the byte after a frame's magic number: a checksum of the content follows the last block. */
const CHECKSUM_BIT = 4;
const CACHED_FRAMES = 4;

/** One frame: where its bytes are in the file, and in the payload. */
interface Frame {
  readonly index: number;
  readonly offset: number;
  readonly compressedBytes: number;
  readonly contentBytes: number;
}

/** No more than the table says, in one go: by default zlib returns 64 small pieces. */
function limits({ contentBytes }: Frame): ZstdOptions {
  return { maxOutputLength: contentBytes, chunkSize: Math.max(64, contentBytes) };
}

export class ZstdPack {
  readonly payloadBytes: number;
  readonly #source: ByteSource;
  readonly #table: Uint8Array;
  readonly #digest: Uint8Array;
  /** Where each frame begins, in the file and in the payload; one more entry says where the last one ends. */
  readonly #offsets: Float64Array;
  readonly #contentOffsets: Float64Array;
  readonly #cache = new Map<number, Uint8Array>();
  #reused = new Uint8Array(0);

  /** Reads the index. @throws CowError `truncated`, `damaged` */
  constructor(source: ByteSource) {
    this.#source = source;
    const { name, sizeBytes } = source;
    const readAt = (offset: number, length: number): Uint8Array => {
      const bytes = new Uint8Array(Math.max(0, Math.min(length, sizeBytes - Math.max(0, offset))));
      return bytes.subarray(0, source.read(bytes, Math.max(0, offset)));
    };
    const tableBytes = seekTableSize(readAt(sizeBytes - TABLE_FOOTER_BYTES, TABLE_FOOTER_BYTES), sizeBytes, name);
    const tableOffset = sizeBytes - tableBytes;
    const digestOffset = tableOffset - DIGEST_FRAME_BYTES;
    this.#table = readAt(tableOffset, tableBytes);
    this.#digest = decodeDigestFrame(readAt(digestOffset, DIGEST_FRAME_BYTES), digestOffset, name);
    const count = seekEntryCount(this.#table, tableOffset, name);
    this.#offsets = new Float64Array(count + 1);
    this.#contentOffsets = new Float64Array(count + 1);
    for (let index = 0; index < count; index++) {
      const entry = seekEntry(this.#table, index);
      if (
        entry.contentBytes === 0 ||
        entry.contentBytes > LARGEST_FRAME_BYTES ||
        entry.compressedBytes < SMALLEST_FRAME_BYTES ||
        entry.compressedBytes > entry.contentBytes + LARGEST_GROWTH_BYTES
      ) {
        const what = `${entry.compressedBytes} bytes that become ${entry.contentBytes}`;
        throw new CowError("damaged", `the seek table at ${atByte(tableOffset)} gives frame ${index} ${what}`, {
          file: name,
        });
      }
      this.#offsets[index + 1] = (this.#offsets[index] ?? 0) + entry.compressedBytes;
      this.#contentOffsets[index + 1] = (this.#contentOffsets[index] ?? 0) + entry.contentBytes;
    }
    const end = this.#offsets[count] ?? 0;
    if (end !== digestOffset) {
      throw new CowError(
        "damaged",
        `the frames end at ${atByte(digestOffset)}, but the seek table makes it ${atByte(end)}`,
        { file: name },
      );
    }
    this.payloadBytes = this.#contentOffsets[count] ?? 0;
  }

  #frame(index: number): Frame | undefined {
    if (index >= this.#offsets.length - 1) return undefined;
    const offset = this.#offsets[index] ?? 0;
    const contentBytes = (this.#contentOffsets[index + 1] ?? 0) - (this.#contentOffsets[index] ?? 0);
    return { index, offset, compressedBytes: (this.#offsets[index + 1] ?? 0) - offset, contentBytes };
  }

  /** Reads payload bytes, decompressing only the frames that hold them. @returns fewer than asked only at the end */
  read(target: Uint8Array, payloadOffset: number): number {
    let done = 0;
    for (let index = this.#frameAt(payloadOffset); done < target.length; index++) {
      const frame = this.#frame(index);
      if (!frame) break;
      const content = this.#content(frame);
      const from = payloadOffset + done - (this.#contentOffsets[index] ?? 0);
      const part = content.subarray(from, from + target.length - done);
      target.set(part, done);
      done += part.length;
    }
    return done;
  }

  /** The whole payload, frame by frame, decompressed several at a time; at its end the file's checksum is compared. */
  async *payload(concurrency: number): AsyncGenerator<Uint8Array> {
    const hash = createHash("sha256");
    const compressed = this.#compressed(hash);
    const contents = mapOrdered(compressed, concurrency, async ({ frame, bytes }) => {
      try {
        const content = this.#checked(frame, await promisify(zstdDecompress)(bytes, limits(frame)));
        release(bytes);
        return content;
      } catch (cause) {
        throw this.#damaged(frame, cause);
      }
    });
    yield* contents;
    if (Buffer.compare(hash.update(this.#table).digest(), this.#digest) !== 0) {
      throw new CowError("damaged", "the checksum of the whole file is not what it was when it was packed", {
        file: this.#source.name,
      });
    }
  }

  *#compressed(hash: Hash): Generator<{ readonly frame: Frame; readonly bytes: Uint8Array }> {
    for (let index = 0; ; index++) {
      const frame = this.#frame(index);
      if (!frame) return;
      const bytes = this.#frameBytes(frame);
      hash.update(bytes);
      yield { frame, bytes };
    }
  }

  #frameAt(payloadOffset: number): number {
    let low = 0;
    let high = this.#offsets.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#contentOffsets[middle + 1] ?? 0) <= payloadOffset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #content(frame: Frame): Uint8Array {
    let content = this.#cache.get(frame.index);
    if (content) {
      this.#cache.delete(frame.index);
    } else {
      try {
        content = this.#checked(
          frame,
          zstdDecompressSync(this.#frameBytes(frame, this.#compressedBuffer(frame)), limits(frame)),
        );
      } catch (cause) {
        throw this.#damaged(frame, cause);
      }
    }
    // The map's order is the order of use: the first key is the least recently used.
    this.#cache.set(frame.index, content);
    const oldest = this.#cache.entries().next();
    if (this.#cache.size > CACHED_FRAMES && !oldest.done) {
      this.#cache.delete(oldest.value[0]);
      release(oldest.value[1]);
    }
    return content;
  }

  /** One buffer for reading frames one at a time: garbage outside of V8's heap is collected late. */
  #compressedBuffer({ compressedBytes }: Frame): Uint8Array<ArrayBuffer> {
    if (this.#reused.length < compressedBytes) this.#reused = new Uint8Array(compressedBytes);
    return this.#reused.subarray(0, compressedBytes);
  }

  /** A frame's bytes. The last four must be the table's checksum: then a decoder compares the content with it. */
  #frameBytes(frame: Frame, bytes = new Uint8Array(frame.compressedBytes)): Uint8Array {
    const got = this.#source.read(bytes, frame.offset);
    const checksum = new DataView(bytes.buffer, bytes.byteOffset).getUint32(bytes.length - 4, true);
    if (
      got < bytes.length ||
      ((bytes[4] ?? 0) & CHECKSUM_BIT) === 0 ||
      checksum !== seekEntry(this.#table, frame.index).checksum
    ) {
      throw this.#damaged(frame, "it is not the one that the seek table describes");
    }
    return bytes;
  }

  #checked(frame: Frame, content: Uint8Array): Uint8Array {
    if (content.length !== frame.contentBytes)
      throw new Error(`it holds ${content.length} bytes, not ${frame.contentBytes}`);
    return content;
  }

  #damaged(frame: Frame, cause: unknown): CowError {
    if (cause instanceof CowError) return cause;
    return new CowError(
      "damaged",
      `the zstd frame at ${atByte(frame.offset)} is damaged: ${cause instanceof Error ? cause.message : String(cause)}`,
      {
        file: this.#source.name,
        details: { offset: frame.offset },
        cause,
      },
    );
  }
}
