/**
 * Owns the count of requests that read from each level of a served stack: 0 is the base, 1 the layer over it, and so on. A
 * request counts once for each level that it reads, in any number of parts; a write that copies up the rest of a block
 * reads, too. For one thread.
 */

export class LevelReads {
  /** How many requests the level had that take() gave last. */
  taken = 0;
  /** Requests by level, and the last request that read each. */
  #counts: Float64Array;
  #last: Float64Array;
  /** Levels with a count, each once: there may be very many levels. */
  readonly #present: number[] = [];
  #request = 0;

  /** @param levels the base, and each layer */
  constructor(levels: number) {
    this.#counts = new Float64Array(levels);
    this.#last = new Float64Array(levels);
  }

  /** The stack has other levels now. What was counted and not taken out stays. */
  resize(levels: number): void {
    if (levels <= this.#counts.length) return;
    const grown = (old: Float64Array): Float64Array => {
      const all = new Float64Array(levels);
      all.set(old);
      return all;
    };
    this.#counts = grown(this.#counts);
    this.#last = grown(this.#last);
  }

  /** The next request begins. */
  begin(): void {
    this.#request++;
  }

  /** The request reads from a level. */
  readonly note = (level: number): void => {
    if (this.#last[level] === this.#request) return;
    this.#last[level] = this.#request;
    const count = this.#counts[level] ?? 0;
    if (count === 0) this.#present.push(level);
    this.#counts[level] = count + 1;
  };

  /** Takes the count of a level out, as `taken`. @returns the level, or -1 if there is none left */
  take(): number {
    const level = this.#present.pop() ?? -1;
    if (level < 0) return level;
    this.taken = this.#counts[level] ?? 0;
    this.#counts[level] = 0;
    return level;
  }
}
