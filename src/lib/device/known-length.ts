/**
 * Owns the known length of an open file, in memory that all threads share: its length when it was opened, or the end of
 * the last write since. A file that is found shorter was cut by another program: it is not believed until it is opened
 * again, because it is not known what fills it if it grows back.
 */

const LENGTH = 0;
/** The length at which it was found cut; NaN if it was not. */
const FOUND = 1;
const NUMBERS_BYTES = 2 * Float64Array.BYTES_PER_ELEMENT;

/** The length of a file as it is known to all threads that use it. */
export class KnownLength {
  readonly shared: SharedArrayBuffer;
  readonly #numbers: Float64Array;
  /** 1 while a thread makes it longer. */
  readonly #lock: Int32Array;

  private constructor(shared: SharedArrayBuffer) {
    this.shared = shared;
    this.#numbers = new Float64Array(shared, 0, 2);
    this.#lock = new Int32Array(shared, NUMBERS_BYTES, 1);
  }

  static of(bytes: number): KnownLength {
    const length = new KnownLength(new SharedArrayBuffer(NUMBERS_BYTES + Int32Array.BYTES_PER_ELEMENT));
    length.set(bytes);
    length.#numbers[FOUND] = Number.NaN;
    return length;
  }

  /** The length that another thread, or another device of the same file, knows. */
  static sharing(shared: SharedArrayBuffer): KnownLength {
    return new KnownLength(shared);
  }

  get bytes(): number {
    return this.#numbers[LENGTH] ?? 0;
  }

  /** We made it this long. */
  set(bytes: number): void {
    this.#numbers[LENGTH] = bytes;
  }

  /** There was a write up to here. Data beyond a known length that is too short would read as zeros. */
  reach(end: number): void {
    if (end <= this.bytes) return;
    while (Atomics.compareExchange(this.#lock, 0, 0, 1) !== 0) {}
    if (end > this.bytes) this.#numbers[LENGTH] = end;
    Atomics.store(this.#lock, 0, 0);
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
