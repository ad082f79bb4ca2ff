/**
 * Owns finding the end of a zstd frame: decoders continue with the next frame, and the next cluster follows a
 * compressed one. Source: RFC 8878, section 3.1.1.
 */

const MAGIC = 0xfd2fb528;
const RAW_OR_PACKED_HEADER_BYTES = 3;
const RLE = 1;
const CHECKSUM_BYTES = 4;
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;

/** The length of the frame at the start of `bytes`, or undefined if there is no complete one. */
export function zstdFrameBytes(bytes: Uint8Array): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 6 || view.getUint32(0, true) !== MAGIC) return undefined;
  const descriptor = bytes[4] ?? 0;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >>> 6;
  let at = 5 + (isSingleSegment ? 0 : 1) + (DICTIONARY_ID_BYTES[descriptor & 3] ?? 0);
  at += isSingleSegment && sizeFlag === 0 ? 1 : (CONTENT_SIZE_BYTES[sizeFlag] ?? 0);
  for (let isLast = false; !isLast; ) {
    if (at + RAW_OR_PACKED_HEADER_BYTES > bytes.length) return undefined;
    const header = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16);
    isLast = (header & 1) !== 0;
    const isRle = ((header >>> 1) & 3) === RLE;
    at += RAW_OR_PACKED_HEADER_BYTES + (isRle ? 1 : header >>> 3);
  }
  if (descriptor & 4) at += CHECKSUM_BYTES;
  return at <= bytes.length ? at : undefined;
}
