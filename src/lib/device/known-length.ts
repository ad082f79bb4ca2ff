/**
 * Owns how long an open file is known to be, in memory that all threads share: as long as when it was opened, or as far as
 * was written since. A file that is found shorter was cut by another program: it is not believed again until it is opened
 * anew, since nothing tells what it was filled up with if it grows back.
 */

const LENGTH = 0;
/** The length at which it was found; NaN as long as it was not found to be shorter. */
const FOUND = 1;

export class KnownLength {
  readonly shared: SharedArrayBuffer;
  readonly #numbers: Float64Array;

  private constructor(shared: SharedArrayBuffer) {
    this.shared = shared;
    this.#numbers = new Float64Array(shared);
  }

  static of(bytes: number): KnownLength {
    const length = new KnownLength(new SharedArrayBuffer(16));
    length.set(bytes);
    length.#numbers[FOUND] = Number.NaN;
    return length;
  }

  /** What another thread, or another device of the same file, knows. */
  static sharing(shared: SharedArrayBuffer): KnownLength {
    return new KnownLength(shared);
  }

  get bytes(): number {
    return this.#numbers[LENGTH] ?? 0;
  }

  /** It was made this long by us. */
  set(bytes: number): void {
    this.#numbers[LENGTH] = bytes;
  }

  /** Something was written up to here. Two threads at a time may leave the smaller number, which is true as well. */
  reach(end: number): void {
    if (end > this.bytes) this.#numbers[LENGTH] = end;
  }

  get isCut(): boolean {
    return !Number.isNaN(this.#numbers[FOUND]);
  }

  /** Where it ended when it was found to be cut. */
  get foundBytes(): number {
    return this.#numbers[FOUND] ?? 0;
  }

  /** Another program has cut it. */
  cutTo(bytes: number): void {
    if (!this.isCut) this.#numbers[FOUND] = bytes;
  }
}
