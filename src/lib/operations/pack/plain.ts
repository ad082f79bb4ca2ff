/**
 * Owns the plain pack: head, bitmap where it always is, and the marked blocks end to end from the data offset.
 */
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import type { OpenedCowfile } from "../../formats/cowfile/layer.ts";
import { BITMAP_OFFSET_BYTES } from "../../formats/cowfile/layout.ts";
import type { Payload } from "../../formats/cowfile/pack/payload.ts";

const PIECE_BYTES = 1 << 20;

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
    yield* bytesOf(source, offset, length);
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
