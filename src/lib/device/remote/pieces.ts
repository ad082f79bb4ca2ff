/**
 * Owns splitting long requests into those that a server accepts: not too long, and of whole blocks. Knows no sockets.
 */
import type { ReadSink } from "./receiver.ts";

/** Pieces of one request that are under way at a time. */
const AT_ONCE = 8;

/** Does `work` for each piece of at most `largest` bytes, several at a time; the first failure ends it. */
export async function pieces(
  offset: number,
  length: number,
  largest: number,
  work: (offset: number, length: number) => Promise<unknown>,
): Promise<void> {
  if (length <= largest) {
    if (length > 0) await work(offset, length);
    return;
  }
  let at = offset;
  let failed = false;
  const worker = async (): Promise<void> => {
    while (at < offset + length && !failed) {
      const from = at;
      at += largest;
      try {
        await work(from, Math.min(largest, offset + length - from));
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const all = await Promise.allSettled(Array.from({ length: AT_ONCE }, worker));
  for (const one of all) if (one.status === "rejected") throw one.reason as Error;
}

/** A sink that is one array. */
export function flatSink(target: Uint8Array): ReadSink {
  return {
    put: (at, bytes) => target.set(bytes, at),
    zero: (at, length) => {
      target.fill(0, at, at + length);
    },
  };
}

/** The same bytes in whole units below `limit`, with a sink that leaves out bytes that were not requested. */
export function withUnitsAround(
  sink: ReadSink,
  offset: number,
  length: number,
  unit: number,
  limit: number,
): { readonly offset: number; readonly length: number; sinkAt(offset: number): ReadSink } {
  const from = Math.floor(offset / unit) * unit;
  const to = Math.max(offset + length, Math.min(limit, Math.ceil((offset + length) / unit) * unit));
  if (from === offset && to === offset + length) return { offset, length, sinkAt: (at) => shifted(sink, at - offset) };
  return { offset: from, length: to - from, sinkAt: (at) => clipped(sink, at - offset, length) };
}

function shifted(sink: ReadSink, by: number): ReadSink {
  if (by === 0) return sink;
  return { put: (at, bytes) => sink.put(at + by, bytes), zero: (at, length) => sink.zero(at + by, length) };
}

/** Shifted, and cut to `[0, length)`. */
function clipped(sink: ReadSink, by: number, length: number): ReadSink {
  const clip = (at: number, size: number): readonly [from: number, to: number] => [
    Math.max(0, at + by),
    Math.min(length, at + by + size),
  ];
  return {
    put: (at, bytes) => {
      const [from, to] = clip(at, bytes.length);
      if (to > from) sink.put(from, bytes.subarray(from - at - by, to - at - by));
    },
    zero: (at, size) => {
      const [from, to] = clip(at, size);
      if (to > from) sink.zero(from, to - from);
    },
  };
}
