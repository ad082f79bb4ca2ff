/**
 * Owns the stream inside gzip and zstd packs: the head's struct with the packed flag, the bitmap, then every allocated
 * block, without gaps. The packing side; unpacker.ts is the other.
 */
import type { ByteSource } from "../../../bytes/byte-source.ts";
import type { Extent } from "../../../bytes/extent.ts";
import { BitmapReader } from "../bitmap-windows.ts";
import { type CowHead, encodeHead } from "../head.ts";
import type { OpenedCowfile } from "../layer.ts";
import { BITMAP_OFFSET_BYTES, BLOCK_BYTES, FLAG_PACKED, HEAD_BLOCK_BYTES } from "../layout.ts";

/** The parts of a cowfile's payload. */
export interface Payload {
  /** The struct as it is packed. */
  readonly head: Uint8Array;
  readonly mapSizeBytes: number;
  readonly blocks: number;
  readonly sizeBytes: number;
  /** The allocated blocks, as extents in bytes of the image. */
  readonly extents: () => Iterable<Extent>;
}

/** The struct's bytes of a head with that flag word. */
export function structBytes(head: CowHead, flags: number): Uint8Array {
  const block = new Uint8Array(HEAD_BLOCK_BYTES);
  return block.slice(0, encodeHead({ ...head, flags }, block));
}

/** Every set bit counts, as in the original, even beyond the end of the image. */
export function payloadOf(source: ByteSource, { head, geometry }: OpenedCowfile): Payload {
  const bits = geometry.mapSizeBytes * 8;
  const extents = (): Iterable<Extent> => new BitmapReader(source, geometry).markedExtents(0, bits);
  let bytes = 0;
  for (const { length } of extents()) bytes += length;
  const struct = structBytes(head, head.flags | FLAG_PACKED);
  return {
    head: struct,
    mapSizeBytes: geometry.mapSizeBytes,
    blocks: bytes / BLOCK_BYTES,
    sizeBytes: struct.length + geometry.mapSizeBytes + bytes,
    extents,
  };
}

/** The payload in pieces of `pieceBytes`, the last one shorter. Each piece is a buffer of its own. */
export function* readPayload(
  source: ByteSource,
  { geometry }: OpenedCowfile,
  payload: Payload,
  pieceBytes: number,
): Generator<Uint8Array<ArrayBuffer>> {
  let piece = new Uint8Array(Math.min(pieceBytes, payload.sizeBytes));
  let filled = 0;
  let left = payload.sizeBytes;
  for (const { offset, length } of sourceRuns(payload, geometry.dataOffsetBytes)) {
    for (let done = 0; done < length; ) {
      const count = Math.min(length - done, piece.length - filled);
      const part = piece.subarray(filled, filled + count);
      if (offset < 0) part.set(payload.head.subarray(done, done + count));
      else part.fill(0, source.read(part, offset + done));
      done += count;
      filled += count;
      if (filled < piece.length) continue;
      yield piece;
      left -= filled;
      piece = new Uint8Array(Math.min(pieceBytes, left));
      filled = 0;
    }
  }
}

const HEAD = -1;

/** The sources of the payload, in order: the head (offset -1), then runs of the file. */
function* sourceRuns(payload: Payload, dataOffsetBytes: number): Generator<Extent> {
  yield { offset: HEAD, length: payload.head.length };
  yield { offset: BITMAP_OFFSET_BYTES, length: payload.mapSizeBytes };
  for (const { offset, length } of payload.extents()) yield { offset: dataOffsetBytes + offset, length };
}
