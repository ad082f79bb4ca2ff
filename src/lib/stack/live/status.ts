/**
 * Owns block status for an image of layers: zeros or data, and which layer has it. Derived from the walk of
 * formats/layered-image.ts, by extent.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import type { Extent } from "../../bytes/extent.ts";
import { CowError } from "../../errors.ts";
import type { Layer } from "../../formats/format.ts";
import { allocatedBy, dataPlaces, shown } from "../../formats/layered-image.ts";
import { type CheckpointLevel, levelOf } from "./checkpoint-level.ts";
import type { OnStatus, StatusKind } from "./image.ts";

/** Flags of `base:allocation`. Data is 0; HOLE alone would mean undefined contents, so it is never used. */
const ZERO_AND_HOLE = 3;

/**
 * One answer about changes looks at this much of one layer, or at a part of that in each of several: no checkpoint has to wait
 * for it. A client asks again behind its end.
 */
const CHANGES_BYTES_AT_MOST = 2 ** 40;
const PIECE_BYTES = 1 << 20;

/** An image as status sees it. */
export interface Levels {
  readonly base: ByteSource;
  /** Bottom to top. */
  readonly layers: readonly Layer[];
  readonly checkpoints: readonly CheckpointLevel[];
}

/**
 * Answers for `[from, to)` of layers over a base, until `onStatus` returns false. `depth` is 1 for the top layer and 0 where
 * nothing is allocated; `dirty` is 1 where the top layer has the part allocated, and since a checkpoint where any layer above
 * it has. About changes in many layers less may be told than was asked for.
 *
 * @throws CowError `not-found` for a checkpoint that is not there: no answer would say that nothing has changed
 */
export function blockStatus(
  kind: StatusKind,
  { base, layers, checkpoints }: Levels,
  [from, to]: readonly [from: number, to: number],
  onStatus: OnStatus,
): void {
  const top = layers.at(-1);
  if (typeof kind === "object") {
    const level = levelOf(checkpoints, kind);
    if (level === undefined)
      throw new CowError("not-found", `checkpoint "${kind.since}" is no longer there: what changed since is unknown`);
    const above = layers.slice(level);
    const pieces = Math.floor(CHANGES_BYTES_AT_MOST / Math.max(1, above.length) / PIECE_BYTES);
    const end = Math.min(to, from + pieces * PIECE_BYTES);
    // What is beyond the image as it was then began as zeros: only what was written there has changed.
    const sizeThen = layers[level - 1]?.virtualSizeBytes ?? base.sizeBytes;
    tell(allocatedBy(above, from, end, sizeThen), [from, end], 0, onStatus, 1);
  } else if (kind === "allocation")
    tell(dataPlaces(shown(base, layers, from, to)), [from, to], ZERO_AND_HOLE, onStatus, 0);
  else if (kind === "dirty") tell(top?.extents(from, to) ?? [], [from, to], 0, onStatus, 1);
  else tell(depths(base, layers, from, to), [from, to], 0, onStatus);
}

interface Depth extends Extent {
  readonly depth: number;
}

/** In the base, everything but holes is data. */
function* depths(base: ByteSource, layers: readonly Layer[], from: number, to: number): Generator<Depth> {
  for (const { offset, length, level } of shown(base, layers, from, to)) {
    const depth = layers.length - level + 1;
    if (level > 0) yield { offset, length, depth };
    else for (const data of base.dataExtents(offset, offset + length)) yield { ...data, depth };
  }
}

/** Reports ascending extents and the gaps between them. @param flags of each extent; its depth if that is not given */
function tell(
  extents: Iterable<Extent & { readonly depth?: number }>,
  [from, to]: readonly [from: number, to: number],
  gapFlags: number,
  onStatus: OnStatus,
  flags?: number,
): void {
  let at = from;
  for (const { offset, length, depth = 0 } of extents) {
    const start = Math.max(offset, at);
    const end = Math.min(offset + length, to);
    if (end <= start) continue;
    if (start > at && !onStatus(start - at, gapFlags)) return;
    if (!onStatus(end - start, flags ?? depth)) return;
    at = end;
  }
  if (at < to) onStatus(to - at, gapFlags);
}
