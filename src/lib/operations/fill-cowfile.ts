/**
 * Owns filling a new cowfile with given parts of an image, for whatever makes one out of layers of any format.
 */
import { readZeroFilled } from "../bytes/byte-source.ts";
import { type Extent, widen } from "../bytes/extent.ts";
import { isZero } from "../bytes/zero.ts";
import { interrupted, makePause, type OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { takeFingerprint } from "../formats/cowfile/fingerprint.ts";
import { BLOCK_BYTES, type CowAbi } from "../formats/cowfile/layout.ts";
import { NewCowfile } from "../formats/cowfile/new-cowfile.ts";

const PIECE_BYTES = 1 << 20;

export interface FillJob {
  /** An empty file. */
  readonly target: BlockDevice;
  readonly abi: CowAbi;
  /** What the cowfile is over. */
  readonly base: BlockDevice;
  readonly rdoBlocks: number;
  /** What it shows, of the parts that it holds. */
  readonly image: BlockDevice;
  /** The parts that it is to hold, ascending, in bytes; widened to whole blocks. */
  readonly extents: Iterable<Extent>;
  readonly phase: string;
}

/** Writes all of it but for the flush. @throws CowError `io`, `no-space`, `interrupted` */
export async function fillCowfile(
  { target, abi, base, rdoBlocks, image, extents, phase }: FillJob,
  context: OperationContext,
): Promise<{ readonly cowfile: NewCowfile; readonly fingerprint: number }> {
  const fingerprint = (await takeFingerprint(base, rdoBlocks, { signal: context.signal })).value;
  const cowfile = new NewCowfile(target, { abi, rdoBlocks });
  const pause = makePause(context.signal, () => interrupted(target.name, "nothing was created"));
  const end = rdoBlocks * BLOCK_BYTES;
  const buffer = new Uint8Array(PIECE_BYTES);
  for (const { offset, length } of widen(extents, BLOCK_BYTES, end)) {
    if (length === 0) await pause();
    for (let at = offset; at < offset + length; at += PIECE_BYTES) {
      const piece = buffer.subarray(0, Math.min(PIECE_BYTES, offset + length - at));
      readZeroFilled(image, piece, at);
      if (isZero(piece)) cowfile.putZeros(at, piece.length);
      else cowfile.put(piece, at);
      context.onProgress?.({ phase, done: at + piece.length, total: end, unit: "bytes" });
      await pause();
    }
  }
  cowfile.finish(fingerprint);
  return { cowfile, fingerprint };
}
