/**
 * Owns the map from chunks of the origin to chunks of the store: sorted, in leaves of typed arrays, so that lookups are
 * binary searches, runs are walked in order, and single exceptions can be added while a store is served.
 */

type Chunks = Uint32Array<ArrayBuffer> | Float64Array<ArrayBuffer>;

interface Leaf {
  /** Ascending; only the first `count` of each count. */
  olds: Chunks;
  news: Chunks;
  count: number;
}

const LEAF_ENTRIES = 1024;

/** Consecutive chunks of the origin that are contiguous in the store. */
export interface ExceptionRun {
  readonly old: number;
  readonly new: number;
  readonly count: number;
}

export class ExceptionMap {
  readonly #leaves: Leaf[] = [];
  /** The first old chunk of each leaf. */
  readonly #firsts: number[] = [];
  #count: number;

  /** @param olds ascending, none twice; both arrays become the map's own */
  constructor(olds: Chunks = new Uint32Array(0), news: Chunks = new Uint32Array(0)) {
    this.#count = olds.length;
    for (let at = 0; at < olds.length; at += LEAF_ENTRIES) {
      const end = Math.min(olds.length, at + LEAF_ENTRIES);
      this.#leaves.push({ olds: olds.subarray(at, end), news: news.subarray(at, end), count: end - at });
      this.#firsts.push(olds[at] ?? 0);
    }
  }

  /** Exceptions in the map. */
  get count(): number {
    return this.#count;
  }

  /** The highest old chunk plus one; 0 for an empty map. */
  get end(): number {
    const last = this.#leaves.at(-1);
    return last ? (last.olds[last.count - 1] ?? 0) + 1 : 0;
  }

  /** The chunk of the store with the data of `old`, or 0. */
  get(old: number): number {
    const leaf = this.#leaves[this.#leafOf(old)];
    if (!leaf) return 0;
    const at = lowerBound(leaf, old);
    return at < leaf.count && leaf.olds[at] === old ? (leaf.news[at] ?? 0) : 0;
  }

  /** Adds an exception for a chunk that has none. */
  add(old: number, next: number): void {
    this.#count++;
    let index = this.#leafOf(old);
    let leaf = this.#leaves[index];
    if (!leaf) {
      this.#leaves.push(ownLeaf([old], [next]));
      this.#firsts.push(old);
      return;
    }
    if (leaf.count === LEAF_ENTRIES) {
      // Sequential writes only append: then the full leaf stays full.
      const isAppend = index === this.#leaves.length - 1 && old > (leaf.olds[leaf.count - 1] ?? 0);
      const at = isAppend ? LEAF_ENTRIES : LEAF_ENTRIES / 2;
      const right = isAppend ? ownLeaf([old], [next]) : ownLeaf(leaf.olds.subarray(at), leaf.news.subarray(at));
      this.#leaves.splice(index + 1, 0, right);
      this.#firsts.splice(index + 1, 0, right.olds[0] ?? 0);
      leaf.count = at;
      if (isAppend) return;
      if (old >= (right.olds[0] ?? 0)) {
        index++;
        leaf = right;
      }
    }
    if (leaf.olds.length < LEAF_ENTRIES || !(leaf.olds instanceof Float64Array)) {
      leaf = ownLeaf(leaf.olds.subarray(0, leaf.count), leaf.news.subarray(0, leaf.count));
      this.#leaves[index] = leaf;
    }
    const at = lowerBound(leaf, old);
    leaf.olds.copyWithin(at + 1, at, leaf.count);
    leaf.news.copyWithin(at + 1, at, leaf.count);
    leaf.olds[at] = old;
    leaf.news[at] = next;
    leaf.count++;
    if (at === 0) this.#firsts[index] = old;
  }

  /** The runs within chunks `[from, to)` of the origin, ascending, split where they are not contiguous. */
  *runs(from: number, to: number): Generator<ExceptionRun> {
    let [old, next, count] = [0, 0, 0];
    let index = this.#leafOf(from);
    let at = this.#leaves[index] ? lowerBound(this.#leaves[index] as Leaf, from) : 0;
    for (let leaf = this.#leaves[index]; leaf; leaf = this.#leaves[++index], at = 0) {
      for (; at < leaf.count; at++) {
        const thisOld = leaf.olds[at] ?? 0;
        if (thisOld >= to) {
          if (count > 0) yield { old, new: next, count };
          return;
        }
        const thisNew = leaf.news[at] ?? 0;
        if (count > 0 && thisOld === old + count && thisNew === next + count) count++;
        else {
          if (count > 0) yield { old, new: next, count };
          [old, next, count] = [thisOld, thisNew, 1];
        }
      }
    }
    if (count > 0) yield { old, new: next, count };
  }

  /** The leaf in which `old` is, or would be. */
  #leafOf(old: number): number {
    let low = 0;
    let high = this.#firsts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#firsts[middle] ?? 0) <= old) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }
}

function ownLeaf(olds: ArrayLike<number>, news: ArrayLike<number>): Leaf {
  const leaf = { olds: new Float64Array(LEAF_ENTRIES), news: new Float64Array(LEAF_ENTRIES), count: olds.length };
  leaf.olds.set(olds);
  leaf.news.set(news);
  return leaf;
}

/** The first entry that is not below `old`. */
function lowerBound({ olds, count }: Leaf, old: number): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((olds[middle] ?? 0) < old) low = middle + 1;
    else high = middle;
  }
  return low;
}
