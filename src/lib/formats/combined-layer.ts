/**
 * Owns several layers as one, for formats of which one part is many: the devices of a dm-cow table, the logs of a snapshot.
 * And a layer over a base of its own, as an image.
 */
import { type ByteSource, readZeroFilled } from "../bytes/byte-source.ts";
import { coalesce, type Extent, union, within } from "../bytes/extent.ts";
import type { Layer, Place, Remarks } from "./format.ts";

export class CombinedLayer implements Layer {
  readonly name: string;
  readonly formatId: string;
  readonly granularityBytes: number;
  readonly virtualSizeBytes: number;
  readonly base: Layer["base"];
  readonly warnings: readonly string[] | undefined;
  readonly #layers: readonly Layer[];

  /** @param layers at least one, bottom to top, of one size */
  constructor(name: string, layers: readonly [Layer, ...Layer[]], warnings?: readonly string[]) {
    const [first] = layers;
    this.name = name;
    this.#layers = layers;
    this.formatId = first.formatId;
    this.granularityBytes = first.granularityBytes;
    this.virtualSizeBytes = first.virtualSizeBytes;
    this.base = first.base;
    this.warnings = warnings;
  }

  extents(from: number, to: number): Iterable<Extent> {
    let all: Iterable<Extent> = [];
    for (const layer of this.#layers) all = union(all, layer.extents(from, to));
    return coalesce(all);
  }

  places(from: number, to: number): Iterable<Place> {
    return this.#placesOf(this.#layers.length, from, to);
  }

  *#placesOf(depth: number, from: number, to: number): Generator<Place> {
    const layer = this.#layers[depth - 1];
    if (!layer || from >= to) return;
    let at = from;
    for (const place of layer.places(from, to)) {
      yield* this.#placesOf(depth - 1, at, place.offset);
      yield place;
      at = place.offset + place.length;
    }
    yield* this.#placesOf(depth - 1, at, to);
  }
}

/** A layer over a base: what a format makes of its files when it is an image by itself. */
export function imageOver(
  base: { readonly source: ByteSource; readonly offsetBytes: number },
  layer: Layer,
): ByteSource & Remarks {
  const { source, offsetBytes } = base;
  const size = layer.virtualSizeBytes;
  return {
    name: layer.name,
    sizeBytes: size,
    allocationUnitBytes: source.allocationUnitBytes,
    seesHoles: source.seesHoles,
    warnings: layer.warnings,
    read(target, from) {
      const length = Math.max(0, Math.min(target.length, size - from));
      let at = from;
      const readBase = (to: number): void => {
        if (to > at) readZeroFilled(source, target.subarray(at - from, to - from), offsetBytes + at);
      };
      for (const place of layer.places(from, from + length)) {
        readBase(place.offset);
        at = place.offset + place.length;
        readZeroFilled(place.source, target.subarray(place.offset - from, at - from), place.at);
      }
      readBase(from + length);
      return length;
    },
    dataExtents(from, to) {
      const end = Math.min(to, size);
      const below = shifted(source.dataExtents(offsetBytes + from, offsetBytes + end), -offsetBytes);
      return within(union(below, layer.extents(from, end)), from, end);
    },
  };
}

function* shifted(extents: Iterable<Extent>, by: number): Generator<Extent> {
  for (const { offset, length } of extents) yield { offset: offset + by, length };
}
