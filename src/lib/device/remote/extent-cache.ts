/**
 * Owns what was learnt of where an export holds data: in lists of bounded length, the oldest of which is forgotten.
 */
import { coalesce, type Extent } from "../../bytes/extent.ts";

/** It is asked about at least so much, as neighbours will be wanted next; and at most about so much. */
const LEAST_BYTES = 16 << 20;
const MOST_BYTES = 1 << 30;
/** Ends that are kept in all lists together: 4 MiB. */
const MOST_ENDS = 1 << 19;

/** Extents that follow each other without gaps, data and holes by turns. */
interface Batch {
  readonly from: number;
  /** Where each ends, in bytes of the export. */
  readonly ends: Float64Array;
  /** Does the first hold data? */
  readonly beginsWithData: boolean;
}

/** Extents by turns: `lengths[0]` is data or not, `lengths[1]` the contrary, and so on. */
export interface Alternating {
  readonly lengths: readonly number[] | Float64Array;
  readonly beginsWithData: boolean;
}

export class ExtentCache {
  readonly #sizeBytes: number;
  readonly #ask: (offset: number, length: number) => Alternating;
  #batches: Batch[] = [];

  /** @param ask tells about at least the first byte of a range, and may tell more than was asked */
  constructor(sizeBytes: number, ask: (offset: number, length: number) => Alternating) {
    this.#sizeBytes = sizeBytes;
    this.#ask = ask;
  }

  /** Something was written: everything may be otherwise now. */
  forget(): void {
    this.#batches = [];
  }

  /** What may hold data of `[from, to)`, asked for as it is read. */
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

/** The index of the first of ascending ends that lies beyond `at`. */
function firstEndAfter(ends: Float64Array, at: number): number {
  let [low, high] = [0, ends.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ends[middle] ?? 0) > at) high = middle;
    else low = middle + 1;
  }
  return low;
}
