/**
 * Owns reading a base chunk by chunk and taking digests, until all is done or the time is up.
 */
import { createHash, type Hash } from "node:crypto";
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import type { Extent } from "../../bytes/extent.ts";
import { isZero } from "../../bytes/zero.ts";
import { interrupted, makeYielder, type OperationContext } from "../../context.ts";
import { DIGEST_DIGITS } from "../../notes/base-record.ts";
import { totalBytes } from "./sampling.ts";

const READ_BYTES = 1 << 20;
const ZEROS = new Uint8Array(READ_BYTES);

/** The digest of zeros, whether they are there or a hole. */
export const ZERO_DIGEST = "";

export interface LookOptions {
  readonly chunkBytes: number;
  /** Where the image ends; the last chunk is shorter. */
  readonly end: number;
  readonly ms: number;
  /** The phase of its progress. */
  readonly phase: string;
  /** The state to report when a signal stops it. */
  readonly state: string;
}

/**
 * Reads each chunk of `extents`, which are whole chunks.
 *
 * @param onChunk called with the number of each one, in the order of the extents
 * @returns the bytes that were read: fewer than asked if the time was up, at least one chunk
 * @throws CowError `io`; `interrupted` when the signal fires
 */
export async function lookAt(
  base: ByteSource,
  extents: readonly Extent[],
  { chunkBytes, end, ms, phase, state }: LookOptions,
  context: OperationContext,
  onChunk: (chunk: number, digest: string) => void,
): Promise<number> {
  const buffer = new Uint8Array(Math.min(chunkBytes, READ_BYTES));
  const total = totalBytes(extents);
  const yieldToEventLoop = makeYielder(context.pace);
  const deadline = performance.now() + ms;
  let done = 0;
  for (const { offset, length } of extents) {
    for (let at = offset; at < offset + length; at += chunkBytes) {
      if (done > 0 && performance.now() > deadline) return done;
      if (context.signal?.aborted) throw interrupted(base.name, state);
      const size = Math.min(chunkBytes, end - at);
      onChunk(at / chunkBytes, digestOf(base, at, size, buffer));
      done += size;
      context.onProgress?.({ phase, done, total, unit: "bytes" });
      await yieldToEventLoop();
    }
  }
  return done;
}

function digestOf(base: ByteSource, offset: number, length: number, buffer: Uint8Array): string {
  let hash: Hash | undefined;
  for (let done = 0; done < length; done += buffer.length) {
    const piece = buffer.subarray(0, Math.min(buffer.length, length - done));
    readZeroFilled(base, piece, offset + done);
    if (!hash && isZero(piece)) continue;
    if (!hash) {
      hash = createHash("sha256");
      for (let zeros = 0; zeros < done; zeros += buffer.length) hash.update(ZEROS.subarray(0, buffer.length));
    }
    hash.update(piece);
  }
  return hash ? hash.digest("hex").slice(0, DIGEST_DIGITS) : ZERO_DIGEST;
}
