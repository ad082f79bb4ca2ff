/**
 * Owns log-linear histograms of latencies: 16 buckets for each power of two, so that what is read from them is at most a
 * thirty-second part off. Pure; the counts are in the caller's memory.
 */

/** The unit of values: a quarter of a microsecond, in nanoseconds. */
const UNIT_NS = 250;
/** Buckets for each power of two, as a power of two. */
const SUB_BITS = 4;
const SUB = 1 << SUB_BITS;
/** The largest value, some 9 minutes; longer ones count as that. */
const LARGEST = 2 ** 31 - 1;
export const BUCKETS = (31 - SUB_BITS) * SUB + SUB;
/** Buckets as Prometheus wants them: from 4 µs to 17 s. */
const FIRST_POWER = 4;
const LAST_POWER = 26;

export function bucketOf(nanoseconds: number): number {
  // Few calls, as it is done for each batch.
  const value = nanoseconds < LARGEST * UNIT_NS ? (nanoseconds / UNIT_NS) | 0 : LARGEST;
  if (value < SUB) return Math.max(value, 0);
  const shift = 31 - SUB_BITS - Math.clz32(value);
  return shift * SUB + (value >>> shift);
}

/** The lowest value of a bucket, in nanoseconds. */
function startNs(bucket: number): number {
  if (bucket < SUB) return bucket * UNIT_NS;
  const shift = Math.floor(bucket / SUB) - 1;
  return (bucket - shift * SUB) * 2 ** shift * UNIT_NS;
}

/** Latencies in microseconds; 0 while there are none. */
export interface Percentiles {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

const NONE: Percentiles = { p50: 0, p99: 0, p999: 0 };

/** Each is the middle of the bucket that has it. @param total of the counts */
export function percentiles(counts: Float64Array, total: number): Percentiles {
  if (total === 0) return NONE;
  let bucket = -1;
  let seen = 0;
  /** Of growing shares, so that one pass has all. */
  const next = (share: number): number => {
    const rank = Math.ceil(total * share);
    while (seen < rank && bucket < BUCKETS - 1) seen += counts[++bucket] ?? 0;
    return (startNs(bucket) + startNs(bucket + 1)) / 2 / 1000;
  };
  return { p50: next(0.5), p99: next(0.99), p999: next(0.999) };
}

export interface LatencyHistogram {
  /** Ascending, with counts that include those of the buckets before; longer ones are in `count` only. */
  readonly buckets: readonly { readonly upToSeconds: number; readonly count: number }[];
  readonly count: number;
  readonly sumSeconds: number;
}

/** @param sumNs of all values */
export function cumulative(counts: Float64Array, sumNs: number): LatencyHistogram {
  const buckets: { upToSeconds: number; count: number }[] = [];
  let count = 0;
  let bucket = 0;
  for (let power = FIRST_POWER; power <= LAST_POWER; power++) {
    const end = bucketOf(2 ** power * UNIT_NS);
    for (; bucket < end; bucket++) count += counts[bucket] ?? 0;
    buckets.push({ upToSeconds: (2 ** power * UNIT_NS) / 1e9, count });
  }
  for (; bucket < BUCKETS; bucket++) count += counts[bucket] ?? 0;
  return { buckets, count, sumSeconds: sumNs / 1e9 };
}
