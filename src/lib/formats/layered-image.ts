/**
 * Owns the walk of a stack: which layer shows in each part of an image, and where its bytes are. Reads, copies, block
 * status and the images of formats all derive from it. Works by extent, never by block.
 */
import { type ByteSource, type Place, readZeroFilled } from "../bytes/byte-source.ts";
import { coalesce, type Extent, union, within } from "../bytes/extent.ts";
import type { Layer, Layered, PlacedSource, Remarks } from "./format.ts";

/** A part of an image, with the layer that shows there: 0 is the base, 1 the layer over it, and so on. */
export interface Shown extends Place {
  readonly level: number;
}

/**
 * The highest of the lowest `level` layers that may show in `[from, to)`, or that ends before `to`; 0 if only the base
 * can. Quick, so that a read that misses every layer needs no walk.
 */
export function topLevel(layers: readonly Layer[], from: number, to: number, level = layers.length): number {
  for (let n = level; n > 0; n--) {
    const layer = layers[n - 1];
    if (layer && (to > layer.virtualSizeBytes || !layer.isClearOf?.(from, to))) return n;
  }
  return 0;
}

/**
 * What shows in `[from, to)` of the lowest `level` layers over a base, ascending; what is left out reads as zeros. A layer
 * that is longer than its backing shows zeros there, one that is shorter hides everything below beyond its end. Extents
 * without a length are pauses.
 *
 * @param base undefined if the layers have no backing, and zeros show
 */
export function* shown(
  base: ByteSource | undefined,
  layers: readonly Layer[],
  from: number,
  to: number,
  level = layers.length,
): Generator<Shown> {
  const top = topLevel(layers, from, to, level);
  const layer = layers[top - 1];
  const end = Math.min(to, (layer ? layer.virtualSizeBytes : base?.sizeBytes) ?? 0);
  if (from >= end) return;
  if (!layer) {
    if (base) yield { offset: from, length: end - from, source: base, at: from, level: 0 };
    return;
  }
  let at = from;
  for (const { offset, length, source, at: where, kind } of layer.places(from, end)) {
    if (offset > at) yield* shown(base, layers, at, offset, top - 1);
    yield { offset, length, source, at: where, kind, level: top };
    at = offset + length;
  }
  if (at < end) yield* shown(base, layers, at, end, top - 1);
}

/** The parts of places that may be something other than zeros. Composed sources are resolved. */
export function* dataPlaces(places: Iterable<Place>): Generator<Place> {
  const known = new WeakMap<ByteSource, Known>();
  for (const place of places) {
    const { offset, length, source, at } = place;
    if (length === 0) yield place;
    else if (source.places) {
      for (const inner of dataPlaces(source.places(at, at + length)))
        yield { offset: offset + inner.offset - at, length: inner.length, source: inner.source, at: inner.at };
    } else {
      for (const data of dataOf(source, at, at + length, known))
        yield { offset: offset + data.offset - at, length: data.length, source, at: data.offset };
    }
  }
}

/** What a source said last: from `from` to `end` there is data in `[start, end)`, and nowhere else. */
interface Known {
  readonly from: number;
  readonly start: number;
  readonly end: number;
}

/** The data in `[from, to)`. A source is asked about its next data once, whatever number of places are within that. */
function* dataOf(source: ByteSource, from: number, to: number, all: WeakMap<ByteSource, Known>): Generator<Extent> {
  for (let at = from; at < to; ) {
    let known = all.get(source);
    if (!known || at < known.from || at >= known.end) {
      known = { from: at, start: Number.POSITIVE_INFINITY, end: Number.POSITIVE_INFINITY };
      for (const { offset, length } of source.dataExtents(at, Math.max(to, source.sizeBytes))) {
        if (length === 0) {
          yield { offset: Math.min(offset, to), length: 0 };
          continue;
        }
        known = { from: at, start: offset, end: offset + length };
        break;
      }
      all.set(source, known);
    }
    const start = Math.max(at, known.start);
    const end = Math.min(to, known.end);
    if (start < end) yield { offset: start, length: end - start };
    at = end;
  }
}

/**
 * The parts of `[from, to)` that any of these layers has allocated, ascending and joined. A layer that is shorter than
 * the others hides the layers below beyond its end, so it counts as allocated zeros there.
 *
 * @param hidden the end of what there is below to be hidden; default `to`
 */
export function allocatedBy(layers: readonly Layer[], from: number, to: number, hidden = to): Iterable<Extent> {
  return within(coalesce(allocatedByAny(layers, [from, to], Math.min(to, hidden))), from, to);
}

/** By halves: an extent passes through few unions, whatever the number of layers. */
function allocatedByAny(
  layers: readonly Layer[],
  [from, to]: readonly [from: number, to: number],
  hidden: number,
): Iterable<Extent> {
  const [layer, ...others] = layers;
  if (!layer) return [];
  if (others.length > 0) {
    const half = layers.length >> 1;
    const all = [from, to] as const;
    return union(allocatedByAny(layers.slice(0, half), all, hidden), allocatedByAny(layers.slice(half), all, hidden));
  }
  const held = layer.extents(from, Math.min(to, layer.virtualSizeBytes));
  const tail = Math.max(from, layer.virtualSizeBytes);
  return tail < hidden ? union(held, [{ offset: tail, length: hidden - tail }]) : held;
}

/** Layers over a base, or over zeros, as one source. */
export class LayeredImage implements PlacedSource, Layered, Remarks {
  readonly name: string;
  readonly sizeBytes: number;
  readonly seesHoles: boolean;
  readonly allocationUnitBytes: number;
  readonly base: ByteSource | undefined;
  /** Bottom to top. */
  readonly layers: readonly Layer[];
  readonly #onRead: ((level: number) => void) | undefined;

  /**
   * @param layers bottom to top; each must fit its backing (stack/open.ts checks that)
   * @param onRead told for each part of a read which level it is read from: 0 is the base, 1 the layer over it, and so on
   */
  constructor(name: string, base: ByteSource | undefined, layers: readonly Layer[], onRead?: (level: number) => void) {
    this.#onRead = onRead;
    const top = layers.at(-1);
    this.name = name;
    this.base = base;
    this.layers = layers;
    this.sizeBytes = top?.virtualSizeBytes ?? base?.sizeBytes ?? 0;
    this.seesHoles = base?.seesHoles ?? true;
    this.allocationUnitBytes = base?.allocationUnitBytes ?? top?.granularityBytes ?? 1;
  }

  get layered(): Layered {
    return this;
  }

  get warnings(): readonly string[] {
    return this.layers.flatMap(({ warnings = [] }) => warnings);
  }

  read(target: Uint8Array, offsetBytes: number): number {
    const length = Math.max(0, Math.min(target.length, this.sizeBytes - offsetBytes));
    const end = offsetBytes + length;
    if (this.base && topLevel(this.layers, offsetBytes, end) === 0) {
      this.#onRead?.(0);
      readZeroFilled(this.base, length === target.length ? target : target.subarray(0, length), offsetBytes);
      return length;
    }
    let done = 0;
    for (const { offset, length: size, source, at, level } of shown(this.base, this.layers, offsetBytes, end)) {
      if (size > 0) this.#onRead?.(level);
      const start = offset - offsetBytes;
      if (start > done) target.fill(0, done, start);
      done = start + size;
      readZeroFilled(source, target.subarray(start, done), at);
    }
    if (done < length) target.fill(0, done, length);
    return length;
  }

  /** Everything that may be something other than zeros, with the source of each part. */
  places(from: number, to: number): Generator<Place> {
    return dataPlaces(shown(this.base, this.layers, from, Math.min(to, this.sizeBytes)));
  }

  /** The parts of `[from, to)` that layers above the lowest `level` have allocated, ascending and joined. */
  allocated(from: number, to: number, level = 0): Iterable<Extent> {
    return allocatedBy(this.layers.slice(level), from, Math.min(to, this.sizeBytes));
  }

  dataExtents(from: number, to: number): Iterable<Extent> {
    return coalesce(this.places(from, to));
  }
}
