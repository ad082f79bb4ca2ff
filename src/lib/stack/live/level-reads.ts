/**
 * Owns the count of requests that read from each level of a served stack: 0 is the base, 1 the layer over it, and so on. A
 * request counts once for each level that it reads, in any number of parts; a write that copies up the rest of a block
 * reads, too. For one thread.
 */

export class LevelReads {
  /** Requests by level; the reader may set them to 0. */
  readonly counts: Float64Array;
  /** The last request that read each level. */
  readonly #last: Float64Array;
  #request = 0;

  /** @param levels the base, and each layer */
  constructor(levels: number) {
    this.counts = new Float64Array(levels);
    this.#last = new Float64Array(levels);
  }

  /** The next request begins. */
  begin(): void {
    this.#request++;
  }

  /** The request reads from a level. */
  readonly note = (level: number): void => {
    if (this.#last[level] === this.#request) return;
    this.#last[level] = this.#request;
    this.counts[level] = (this.counts[level] ?? 0) + 1;
  };
}
