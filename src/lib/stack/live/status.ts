/**
 * Owns the answers to "what is there?" for an image of layers: zeros or data, and which layer holds it. Walks extents,
 * never blocks.
 */
import type { Extent } from "../../bytes/extent.ts";
import type { OnStatus } from "./image.ts";

/** Flags of `base:allocation`. Data is 0; HOLE alone would mean undefined contents, so that it is never said. */
const ZERO_AND_HOLE = 3;

/** A layer, or the base, as the walk sees it. */
export interface Level {
  /** The parts of `[from, to)` that it holds. */
  held(from: number, to: number): Iterable<Extent>;
  /** The parts of `[from, to)`, all of which it holds, that may be something other than zeros. */
  data(from: number, to: number): Iterable<Extent>;
}

/** Splits `[from, to)` at ascending extents; stops and returns false as soon as one of the two says so. */
function split(
  extents: Iterable<Extent>,
  from: number,
  to: number,
  onGap: (from: number, to: number) => boolean,
  onExtent: (from: number, to: number) => boolean,
): boolean {
  let at = from;
  for (const { offset, length } of extents) {
    const start = Math.max(offset, at);
    const end = Math.min(offset + length, to);
    if (end <= start) continue;
    if (start > at && !onGap(at, start)) return false;
    if (!onExtent(start, end)) return false;
    at = end;
  }
  return at >= to || onGap(at, to);
}

/** Allocation of `[from, to)`. @param levels top to bottom, the base last */
export function walkAllocation(levels: readonly Level[], from: number, to: number, onStatus: OnStatus): boolean {
  const [top, ...below] = levels;
  if (!top) return onStatus(to - from, ZERO_AND_HOLE);
  return split(
    top.held(from, to),
    from,
    to,
    (start, end) => walkAllocation(below, start, end, onStatus),
    (start, end) =>
      split(
        top.data(start, end),
        start,
        end,
        (a, b) => onStatus(b - a, ZERO_AND_HOLE),
        (a, b) => onStatus(b - a, 0),
      ),
  );
}

/** The number of the level that holds each part, from 1 for the top; 0 where none does. */
export function walkDepth(levels: readonly Level[], from: number, to: number, onStatus: OnStatus, depth = 1): boolean {
  const [top, ...below] = levels;
  if (!top) return onStatus(to - from, 0);
  return split(
    top.held(from, to),
    from,
    to,
    (start, end) => walkDepth(below, start, end, onStatus, depth + 1),
    (start, end) => onStatus(end - start, depth),
  );
}

/** 1 where the top level holds the part, else 0. */
export function walkHeld(top: Level | undefined, from: number, to: number, onStatus: OnStatus): boolean {
  if (!top) return onStatus(to - from, 0);
  return split(
    top.held(from, to),
    from,
    to,
    (start, end) => onStatus(end - start, 0),
    (start, end) => onStatus(end - start, 1),
  );
}
