/**
 * Owns the plain pack: head, bitmap where it always is, and the marked blocks end to end from the data offset.
 */
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import { isZero } from "../../bytes/zero.ts";
import type { OpenedCowfile } from "../../formats/cowfile/layer.ts";
import { BITMAP_OFFSET_BYTES } from "../../formats/cowfile/layout.ts";
import type { Payload } from "../../formats/cowfile/pack/payload.ts";

const PIECE_BYTES = 1 << 20;
const CHUNK_BYTES = 4096;

/** The file from its first byte to its last; gaps, and holes of the bitmap, as runs of zeros. */
export async function* plainPieces(
  source: ByteSource,
  { geometry }: OpenedCowfile,
  payload: Payload,
): AsyncGenerator<Uint8Array | { readonly zeros: number }> {
  // Every piece is the consumer's, to be released when it is written.
  yield payload.head.slice();
  let at = payload.head.length;
  const bitmapEnd = BITMAP_OFFSET_BYTES + geometry.mapSizeBytes;
  for (const { offset, length } of source.dataExtents(BITMAP_OFFSET_BYTES, bitmapEnd)) {
    if (offset > at) yield { zeros: offset - at };
    for (const piece of bytesOf(source, offset, length)) yield* withoutZeros(piece);
    at = offset + length;
  }
  const end = payload.blocks === 0 ? bitmapEnd : geometry.dataOffsetBytes;
  if (end > at) yield { zeros: end - at };
  for (const { offset, length } of payload.extents()) yield* bytesOf(source, geometry.dataOffsetBytes + offset, length);
}

function* bytesOf(source: ByteSource, offset: number, length: number): Generator<Uint8Array> {
  for (let done = 0; done < length; done += PIECE_BYTES) {
    const piece = new Uint8Array(Math.min(PIECE_BYTES, length - done));
    readZeroFilled(source, piece, offset + done);
    yield piece;
  }
}

/** A part of the bitmap, where pages without a mark become runs of zeros. */
function* withoutZeros(piece: Uint8Array): Generator<Uint8Array | { readonly zeros: number }> {
  for (let at = 0; at < piece.length; at += CHUNK_BYTES) {
    const chunk = piece.slice(at, at + CHUNK_BYTES);
    yield isZero(chunk) ? { zeros: chunk.length } : chunk;
  }
}
