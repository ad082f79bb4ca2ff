/**
 * Owns packs and cowfiles that come from or go to a stream (`-`): spooled into a scratch file where they must be read at
 * any place, written in order where they must not.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { isZero } from "../../bytes/zero.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import type { Storage } from "../../device/storage.ts";

const PIECE_BYTES = 1 << 20;
const PAGE_BYTES = 4096;

/** Whoever reads what is written in order. Resolves once it may be given more. */
export type StreamSink = (bytes: Uint8Array) => Promise<void>;

/** Reads a stream to its end into a scratch file, where zeros stay holes. */
export async function spool(storage: Storage, stream: AsyncIterable<Uint8Array>): Promise<BlockDevice> {
  const device = storage.scratch("-");
  let size = 0;
  try {
    for await (const piece of stream) {
      for (let at = 0; at < piece.length; at += PAGE_BYTES) {
        const page = piece.subarray(at, at + PAGE_BYTES);
        if (!isZero(page)) device.write(page, size + at);
      }
      size += piece.length;
    }
    device.resize(size);
    return device;
  } catch (error) {
    device.close();
    throw error;
  }
}

/** Writes a whole source to a stream, holes as zeros. */
export async function pourOut(source: ByteSource, sink: StreamSink): Promise<void> {
  for (let at = 0; at < source.sizeBytes; at += PIECE_BYTES) {
    const piece = new Uint8Array(Math.min(PIECE_BYTES, source.sizeBytes - at));
    await sink(piece.subarray(0, source.read(piece, at)));
  }
}
