/**
 * Owns extents (runs of bytes or blocks) and compact lists of them. Knows nothing of what an extent means.
 */

/**
 * A run of bytes: `[offset, offset + length)`. Both in bytes.
 *
 * An extent without a length is a pause. A generator that searches much to find little yields one now and then, so that
 * a long walk can be stopped: a generator cannot wait, but its reader can. Everything here passes pauses on, in their
 * place.
 */
export interface Extent {
  readonly offset: number;
  readonly length: number;
}

const INITIAL_PAIRS = 64;
/** A pause follows after this many extents that were skipped or joined. */
const PAUSE_EVERY = 4096;

/** A hostile bitmap has a run every other bit: beyond this many extents a list only counts (8 MiB of memory). */
const MAX_PAIRS = 1 << 19;

/**
 * An ascending list of extents in 16 bytes each, joining neighbours as they are appended. It keeps the first half
 * million and counts the rest.
 */
export class ExtentList implements Iterable<Extent> {
  #pairs = new Float64Array(INITIAL_PAIRS * 2);
  #count = 0;
  #omitted = 0;
  #end = -1;
  #totalBytes = 0;

  /** How many extents are kept. */
  get count(): number {
    return this.#count;
  }

  /** How many more were counted, but not kept. */
  get omitted(): number {
    return this.#omitted;
  }

  /** Where the last extent ends, kept or not; -1 for an empty list. */
  get end(): number {
    return this.#end;
  }

  /** The sum of all lengths. */
  get totalBytes(): number {
    return this.#totalBytes;
  }

  /** Appends `[offset, offset + length)`; it must not lie before the end of the last extent. */
  append(offset: number, length: number): void {
    if (length <= 0) return;
    this.#totalBytes += length;
    const joins = offset === this.#end;
    this.#end = offset + length;
    const last = this.#count * 2 - 1;
    if (joins) {
      if (this.#omitted === 0) this.#pairs[last] = (this.#pairs[last] ?? 0) + length;
      return;
    }
    if (this.#count === MAX_PAIRS) {
      this.#omitted++;
      return;
    }
    if (this.#count * 2 === this.#pairs.length) {
      const grown = new Float64Array(this.#pairs.length * 2);
      grown.set(this.#pairs);
      this.#pairs = grown;
    }
    this.#pairs[this.#count * 2] = offset;
    this.#pairs[this.#count * 2 + 1] = length;
    this.#count++;
  }

  at(index: number): Extent | undefined {
    if (index < 0 || index >= this.#count) return undefined;
    return { offset: this.#pairs[index * 2] ?? 0, length: this.#pairs[index * 2 + 1] ?? 0 };
  }

  *[Symbol.iterator](): Iterator<Extent> {
    for (let i = 0; i < this.#count; i++) {
      yield { offset: this.#pairs[i * 2] ?? 0, length: this.#pairs[i * 2 + 1] ?? 0 };
    }
  }
}

/** Joins neighbours and overlaps of ascending extents. */
export function* coalesce(extents: Iterable<Extent>): Generator<Extent> {
  let offset = 0;
  let end = -1;
  let joined = 0;
  for (const extent of extents) {
    if (extent.length <= 0 || ++joined % PAUSE_EVERY === 0)
      yield { offset: end >= 0 ? offset : extent.offset, length: 0 };
    if (extent.length <= 0) continue;
    if (end >= 0 && extent.offset <= end) {
      end = Math.max(end, extent.offset + extent.length);
      continue;
    }
    if (end >= 0) yield { offset, length: end - offset };
    offset = extent.offset;
    end = extent.offset + extent.length;
  }
  if (end >= 0) yield { offset, length: end - offset };
}

/** The union of two ascending lists, ascending and joined. */
export function* union(a: Iterable<Extent>, b: Iterable<Extent>): Generator<Extent> {
  yield* coalesce(inOrder(a, b));
}

/** Two ascending lists as one, nothing joined. */
export function* inOrder<Kind extends Extent>(a: Iterable<Kind>, b: Iterable<Kind>): Generator<Kind> {
  const left = a[Symbol.iterator]();
  const right = b[Symbol.iterator]();
  let x = left.next();
  let y = right.next();
  while (!(x.done && y.done)) {
    if (y.done || (!x.done && x.value.offset <= y.value.offset)) {
      yield x.value;
      x = left.next();
    } else {
      yield y.value;
      y = right.next();
    }
  }
}

/** A list of extents without pauses, for data in memory. */
export function listed(extents: Iterable<Extent>): Extent[] {
  return [...extents].filter(({ length }) => length > 0);
}

/** Ascending extents, cut to `[from, to)`. */
export function* within(extents: Iterable<Extent>, from: number, to: number): Generator<Extent> {
  for (const { offset, length } of extents) {
    const start = Math.max(from, offset);
    const stop = Math.min(to, offset + length);
    if (stop > start) yield { offset: start, length: stop - start };
    else if (length <= 0) yield { offset: Math.min(start, to), length: 0 };
  }
}

/** `[from, to)` without ascending, disjoint `extents`. */
export function* complement(extents: Iterable<Extent>, from: number, to: number): Generator<Extent> {
  let at = from;
  for (const { offset, length } of extents) {
    if (offset >= to) break;
    if (length <= 0) {
      yield { offset: at, length: 0 };
      continue;
    }
    if (offset > at) yield { offset: at, length: offset - at };
    at = Math.max(at, offset + length);
  }
  if (at < to) yield { offset: at, length: to - at };
}

/** Widens each extent to multiples of `unit` within `[0, limit)` and joins those that then touch. */
export function* widen(extents: Iterable<Extent>, unit: number, limit: number): Generator<Extent> {
  yield* coalesce(
    (function* () {
      for (const { offset, length } of extents) {
        const start = Math.floor(offset / unit) * unit;
        const end = Math.min(limit, Math.ceil((offset + length) / unit) * unit);
        if (length <= 0 || end > start) yield { offset: start, length: length <= 0 ? 0 : end - start };
      }
    })(),
  );
}

/** The parts that are in both of two ascending, disjoint lists. */
export function* intersect(a: Iterable<Extent>, b: Iterable<Extent>): Generator<Extent> {
  const other = b[Symbol.iterator]();
  let y = other.next();
  let seen = 0;
  for (const { offset, length } of a) {
    const end = offset + length;
    if (length <= 0 || ++seen % PAUSE_EVERY === 0) yield { offset, length: 0 };
    while (!y.done && y.value.offset < end) {
      const start = Math.max(offset, y.value.offset);
      const stop = Math.min(end, y.value.offset + y.value.length);
      if (stop > start || y.value.length <= 0 || ++seen % PAUSE_EVERY === 0)
        yield { offset: start, length: Math.max(0, stop - start) };
      // An extent that reaches beyond this one may meet the next.
      if (y.value.offset + y.value.length > end) break;
      y = other.next();
    }
  }
}

/** The parts of `a` that are not in `b`; both ascending and disjoint. */
export function* subtract(a: Iterable<Extent>, b: Iterable<Extent>): Generator<Extent> {
  const other = b[Symbol.iterator]();
  let y = other.next();
  let seen = 0;
  for (const { offset, length } of a) {
    const end = offset + length;
    let at = offset;
    if (length <= 0 || ++seen % PAUSE_EVERY === 0) yield { offset, length: 0 };
    while (!y.done && y.value.offset < end) {
      if (y.value.length <= 0 || ++seen % PAUSE_EVERY === 0) yield { offset: at, length: 0 };
      if (y.value.length <= 0) {
        y = other.next();
        continue;
      }
      if (y.value.offset > at) yield { offset: at, length: y.value.offset - at };
      at = Math.max(at, y.value.offset + y.value.length);
      if (at >= end) break;
      y = other.next();
    }
    if (at < end) yield { offset: at, length: end - at };
  }
}
