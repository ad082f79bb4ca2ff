/**
 * Owns what is kept of a comparison of two sources: where they are the same, where they differ, and samples of that.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { type Extent, ExtentList } from "../../bytes/extent.ts";
import type { Pause } from "../../context.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { type Compared, compare } from "../../output/differences.ts";
import type { DifferenceSample } from "./request.ts";

const SAMPLE_BYTES = 16;

export interface ComparisonHooks {
  /** Told how far in the image it is. */
  readonly checkpoint: (offsetBytes: number) => void;
  /** Throws when the caller wants to stop. */
  readonly pause: Pause;
  /** How many differing places to keep. */
  readonly samples: number;
}

export interface Comparison {
  readonly different: ExtentList;
  readonly same: ExtentList;
  readonly samples: readonly DifferenceSample[];
}

/** Compares ascending extents of the image, a block at a time where they differ. */
export async function compareExtents(
  a: ByteSource,
  b: ByteSource,
  extents: Iterable<Extent>,
  hooks: ComparisonHooks,
): Promise<Comparison> {
  const [different, same, samples] = [new ExtentList(), new ExtentList(), [] as DifferenceSample[]];
  let reachedBytes = 0;
  for (const part of compare(a, b, extents, BLOCK_BYTES)) {
    if (part.length === 0) {
      hooks.checkpoint(reachedBytes);
      await hooks.pause();
      continue;
    }
    reachedBytes = part.offset + part.length;
    (part.differs ? different : same).append(part.offset, part.length);
    if (part.differs && samples.length < hooks.samples) takeSamples(part, samples, hooks.samples);
  }
  return { different, same, samples };
}

/** Keeps the aligned rows of 16 bytes in which a part differs. */
function takeSamples({ offset, length, a, b }: Compared, samples: DifferenceSample[], most: number): void {
  for (let at = 0; at < length && samples.length < most; at += SAMPLE_BYTES) {
    const [ours, theirs] = [a, b].map((side) => new Uint8Array(side.subarray(at, Math.min(length, at + SAMPLE_BYTES))));
    if (ours && theirs && Buffer.compare(ours, theirs) !== 0) samples.push({ offset: offset + at, a: ours, b: theirs });
  }
}
