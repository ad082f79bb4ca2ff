/**
 * Owns how many bytes of an export were written since a flush covered them, over all of its connections.
 */
import { Shared } from "./slot.ts";

export class Unflushed {
  readonly #words: BigInt64Array;

  constructor(shared: SharedArrayBuffer) {
    this.#words = new BigInt64Array(shared);
  }

  get bytes(): number {
    const flushed = Atomics.load(this.#words, Shared.FLUSHED);
    return Number(Atomics.load(this.#words, Shared.WRITTEN) - flushed);
  }

  add(bytes: number): void {
    Atomics.add(this.#words, Shared.WRITTEN, BigInt(bytes));
  }

  /** Flushes by `work`: covers what was added before. What it throws leaves everything unflushed. */
  cover(work: () => void): void {
    const upTo = Atomics.load(this.#words, Shared.WRITTEN);
    work();
    for (let seen = Atomics.load(this.#words, Shared.FLUSHED); seen < upTo; ) {
      const was = Atomics.compareExchange(this.#words, Shared.FLUSHED, seen, upTo);
      if (was === seen) return;
      seen = was;
    }
  }
}
