/**
 * Owns long lists of chunk numbers in typed arrays, 4 bytes each while that is enough, then 8; and their order. Does
 * not know what a chunk is.
 */

type ChunkArray = Uint32Array<ArrayBuffer> | Float64Array<ArrayBuffer>;

const FIRST_LENGTH = 256;
const UINT32_LIMIT = 2 ** 32;
/** From this many on, sorting by digits is faster than comparing. */
const RADIX_FROM = 1000;
const DIGIT_BITS = 11;
const DIGIT_VALUES = 1 << DIGIT_BITS;

/** A growing list of numbers from 0 to 2^53 (larger ones are rounded). */
export class ChunkColumn {
  #values: ChunkArray = new Uint32Array(FIRST_LENGTH);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  at(index: number): number {
    return this.#values[index] ?? 0;
  }

  push(value: number): void {
    if (value >= UINT32_LIMIT && this.#values instanceof Uint32Array) this.#values = Float64Array.from(this.#values);
    if (this.#length === this.#values.length) this.#grow();
    this.#values[this.#length++] = value;
  }

  /** Forgets everything from `length` on. */
  truncate(length: number): void {
    this.#length = Math.min(this.#length, length);
  }

  #grow(): void {
    const length = this.#values.length * 2;
    const grown = this.#values instanceof Uint32Array ? new Uint32Array(length) : new Float64Array(length);
    grown.set(this.#values);
    this.#values = grown;
  }

  /** The same numbers in the order of `indexes`, as an array of its own. */
  pick(indexes: Uint32Array): ChunkArray {
    const values = this.#values;
    const picked = values instanceof Uint32Array ? new Uint32Array(indexes.length) : new Float64Array(indexes.length);
    for (let i = 0; i < indexes.length; i++) picked[i] = values[indexes[i] ?? 0] ?? 0;
    return picked;
  }

  /** Do the numbers at `indexes` ascend, none twice? */
  ascends(indexes: Uint32Array): boolean {
    const values = this.#values;
    let last = -1;
    for (const index of indexes) {
      const value = values[index] ?? 0;
      if (value <= last) return false;
      last = value;
    }
    return true;
  }

  /** `indexes` in the order of their numbers; of equal ones the earlier index comes first. */
  sorted(indexes: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
    const values = this.#values;
    if (indexes.length < RADIX_FROM) {
      return indexes.slice().sort((a, b) => (values[a] ?? 0) - (values[b] ?? 0) || a - b);
    }
    let max = 0;
    for (const index of indexes) max = Math.max(max, values[index] ?? 0);
    let from = indexes.slice();
    let to = new Uint32Array(indexes.length);
    for (let divisor = 1; divisor <= max; divisor *= DIGIT_VALUES) {
      sortByDigit(values, divisor, from, to);
      [from, to] = [to, from];
    }
    return from;
  }
}

/** One stable pass of a radix sort. */
function sortByDigit(values: ChunkArray, divisor: number, from: Uint32Array, to: Uint32Array): void {
  const starts = new Uint32Array(DIGIT_VALUES + 1);
  const isNarrow = values instanceof Uint32Array && divisor < UINT32_LIMIT;
  const shift = Math.round(Math.log2(divisor));
  const digitOf = isNarrow
    ? (value: number) => (value >>> shift) & (DIGIT_VALUES - 1)
    : (value: number) => Math.floor(value / divisor) % DIGIT_VALUES;
  for (const index of from) {
    const next = digitOf(values[index] ?? 0) + 1;
    starts[next] = (starts[next] ?? 0) + 1;
  }
  for (let digit = 1; digit < DIGIT_VALUES; digit++) starts[digit] = (starts[digit] ?? 0) + (starts[digit - 1] ?? 0);
  for (const index of from) {
    const digit = digitOf(values[index] ?? 0);
    const place = starts[digit] ?? 0;
    to[place] = index;
    starts[digit] = place + 1;
  }
}
