/**
 * Owns walking over extents without reading or writing their data, so that such a walk can be stopped as well.
 */
import type { Extent } from "../bytes/extent.ts";
import type { Pause } from "../context.ts";

const PAUSE_EVERY = 1024;

/** Walks over extents without reading or writing their data; pauses at those without a length, and now and then. */
export async function walkExtents<Kind extends Extent>(
  extents: Iterable<Kind>,
  pause: Pause,
  visit: (extent: Kind) => void,
): Promise<void> {
  let count = 0;
  for (const extent of extents) {
    if (extent.length > 0) visit(extent);
    if (extent.length > 0 && ++count % PAUSE_EVERY !== 0) continue;
    const turn = pause();
    if (turn) await turn;
  }
}

/** The sum of all lengths. */
export async function totalLength(extents: Iterable<Extent>, pause: Pause): Promise<number> {
  let total = 0;
  await walkExtents(extents, pause, ({ length }) => {
    total += length;
  });
  return total;
}
