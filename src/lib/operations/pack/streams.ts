/**
 * Owns packs and cowfiles that come from or go to a stream (`-`): spooled into a scratch file where they must be read at
 * any place, written in order where they must not.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { isZero } from "../../bytes/zero.ts";
import { interrupted, makeYielder } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import type { Storage } from "../../device/storage.ts";

const PIECE_BYTES = 1 << 20;
const PAGE_BYTES = 4096;

/** The reader of what is written, in order. Resolves when it can take more. */
export type StreamSink = (bytes: Uint8Array) => Promise<void>;

/**
 * Reads a stream to its end into a scratch file, where zeros stay holes.
 * @throws CowError `interrupted` as soon as the signal fires, also while nothing comes
 */
export async function spool(
  storage: Storage,
  stream: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<BlockDevice> {
  const device = storage.scratch("-");
  let size = 0;
  try {
    for await (const piece of untilAborted(stream, signal)) {
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

async function* untilAborted<Piece>(
  stream: AsyncIterable<Piece>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Piece> {
  const iterator = stream[Symbol.asyncIterator]();
  let stop: () => void = () => undefined;
  const aborted = new Promise<undefined>((resolve) => {
    stop = () => resolve(undefined);
    signal?.addEventListener("abort", stop, { once: true });
  });
  try {
    for (;;) {
      const next = signal?.aborted ? undefined : await Promise.race([iterator.next(), aborted]);
      if (!next) throw interrupted("-", "nothing was created");
      if (next.done) return;
      yield next.value;
    }
  } finally {
    signal?.removeEventListener("abort", stop);
    // Not waited for: a stream that brings nothing would not answer this either.
    void iterator.return?.()?.catch(() => undefined);
  }
}

/** Writes a whole source to a stream, holes as zeros. @throws CowError `interrupted` */
export async function pourOut(source: ByteSource, sink: StreamSink, signal: AbortSignal | undefined): Promise<void> {
  const yieldToEventLoop = makeYielder();
  for (let at = 0; at < source.sizeBytes; at += PIECE_BYTES) {
    const piece = new Uint8Array(Math.min(PIECE_BYTES, source.sizeBytes - at));
    await sink(piece.subarray(0, source.read(piece, at)));
    await yieldToEventLoop();
    if (signal?.aborted) throw interrupted("-", "what was written so far is not the whole file");
  }
}
