/**
 * Owns counting the uses of each cluster of the file: a window of clusters at a time, so that memory stays bounded.
 * Saturates, because the exact size of an error does not matter.
 */

/** Clusters in a window: 32 MiB of counts. */
export const WINDOW_CLUSTERS = 1 << 24;
const KIND_SHIFT = 14;
/** The highest exact count. */
export const MOST_USES = (1 << KIND_SHIFT) - 1;

/** The uses of a cluster. Snapshots share data and L2 tables with each other, but nothing else. */
export const USE = { data: 1, l2: 2, other: 3 } as const;
export type Use = (typeof USE)[keyof typeof USE];

export class UsageCounts {
  readonly first: number;
  readonly end: number;
  used = false;
  readonly #counts: Uint16Array;

  /** @param count clusters from `first` on, at most WINDOW_CLUSTERS */
  constructor(first: number, count: number) {
    this.first = first;
    this.end = first + count;
    this.#counts = new Uint16Array(count);
  }

  /**
   * Counts uses of each cluster from `cluster` on, as far as they are in the window. Metadata that overlaps something
   * is counted up to there only, so that very many tables in one place cost one step each.
   * @returns the first cluster with a conflicting use; undefined if there is none
   */
  add(cluster: number, count: number, use: Use, times = 1): number | undefined {
    const from = Math.max(cluster, this.first);
    const to = Math.min(cluster + count, this.end);
    let overlap: number | undefined;
    for (let at = from; at < to; at++) {
      const old = this.#counts[at - this.first] ?? 0;
      const kind = old >>> KIND_SHIFT;
      if (kind !== 0 && (kind !== use || use === USE.other)) overlap ??= at;
      const uses = Math.min(MOST_USES, (old & MOST_USES) + times);
      this.#counts[at - this.first] = uses | (Math.max(kind, use) << KIND_SHIFT);
      this.used = true;
      if (overlap !== undefined && use === USE.other) break;
    }
    return overlap;
  }

  uses(cluster: number): number {
    return (this.#counts[cluster - this.first] ?? 0) & MOST_USES;
  }
}
