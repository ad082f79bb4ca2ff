/**
 * Owns the cache of where an export holds data: lists of bounded length; the oldest is dropped.
 */
import { coalesce, type Extent } from "../../bytes/extent.ts";

/** A question covers at least this much, because neighbours will be needed next; and at most about this much. */
const LEAST_BYTES = 16 << 20;
const MOST_BYTES = 1 << 30;
/** Ends in all lists together: 4 MiB. */
const MOST_ENDS = 1 << 19;

/** Contiguous extents, data and holes alternating. */
interface Batch {
  readonly from: number;
  /** Where each ends, in bytes of the export. */
  readonly ends: Float64Array;
  /** Does the first hold data? */
  readonly beginsWithData: boolean;
}

/** Alternating extents: `lengths[0]` is data or not, `lengths[1]` the contrary, and so on. */
export interface Alternating {
  readonly lengths: readonly number[] | Float64Array;
  readonly beginsWithData: boolean;
}

export class ExtentCache {
  readonly #sizeBytes: number;
  readonly #ask: (offset: number, length: number) => Alternating;
  #batches: Batch[] = [];

  /** @param ask answers for at least the first byte of a range, and may answer for more than was asked */
  constructor(sizeBytes: number, ask: (offset: number, length: number) => Alternating) {
    this.#sizeBytes = sizeBytes;
    this.#ask = ask;
  }

  /** The parts of `[from, to)` that may hold data, asked for as they are read. */
  *data(from: number, to: number): Generator<Extent> {
    yield* coalesce(this.#parts(from, Math.min(to, this.#sizeBytes)));
  }

  *#parts(from: number, to: number): Generator<Extent> {
    for (let at = from; at < to; ) {
      const batch = this.#batchAt(at, to);
      let index = firstEndAfter(batch.ends, at);
      for (; index < batch.ends.length && at < to; index++) {
        const end = Math.min(to, batch.ends[index] ?? to);
        if ((index % 2 === 0) === batch.beginsWithData) yield { offset: at, length: end - at };
        at = end;
      }
    }
  }

  #batchAt(at: number, to: number): Batch {
    const known = this.#batches.find(({ from, ends }) => at >= from && at < (ends.at(-1) ?? 0));
    if (known) return known;
    const length = Math.min(MOST_BYTES, Math.max(to - at, LEAST_BYTES), this.#sizeBytes - at);
    const { lengths, beginsWithData } = this.#ask(at, length);
    let end = at;
    const ends = Float64Array.from(lengths, (part) => (end += part));
    const batch = { from: at, ends, beginsWithData };
    this.#batches.push(batch);
    let kept = this.#batches.reduce((sum, { ends: { length: count } }) => sum + count, 0);
    while (kept > MOST_ENDS) kept -= this.#batches.shift()?.ends.length ?? kept;
    return batch;
  }
}

/** The index of the first of ascending ends beyond `at`. */
function firstEndAfter(ends: Float64Array, at: number): number {
  let [low, high] = [0, ends.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ends[middle] ?? 0) > at) high = middle;
    else low = middle + 1;
  }
  return low;
}
