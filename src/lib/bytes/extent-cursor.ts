/**
 * Owns walking along ascending extents in steps, for passes that go over several lists side by side.
 */
import type { Extent } from "./extent.ts";

/** Hands out extents clipped to ascending ranges. */
export class ExtentCursor {
  readonly #extents: Iterator<Extent>;
  #current: Extent | undefined;

  constructor(extents: Iterable<Extent>) {
    this.#extents = extents[Symbol.iterator]();
    this.#advance();
  }

  #advance(): void {
    const next = this.#extents.next();
    this.#current = next.done ? undefined : next.value;
  }

  /** The start of the next extent, or undefined. */
  get position(): number | undefined {
    return this.#current?.offset;
  }

  /** The next extent that begins below `limit`, cut there. */
  takeBelow(limit: number): Extent | undefined {
    const current = this.#current;
    if (!current || current.offset >= limit) return undefined;
    const end = current.offset + current.length;
    if (end <= limit) this.#advance();
    else this.#current = { offset: limit, length: end - limit };
    return { offset: current.offset, length: Math.min(end, limit) - current.offset };
  }

  /** All further extents below `limit`, the last one cut there. */
  *allBelow(limit: number): Generator<Extent> {
    for (let next = this.takeBelow(limit); next; next = this.takeBelow(limit)) yield next;
  }
}
