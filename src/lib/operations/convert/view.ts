/**
 * Owns a stack as the sum of its parts: what shows where, and from which file it comes, so that a conversion copies from
 * there without reading through the layers. Also what only the layers above some height hold.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { coalesce, type Extent, union, within } from "../../bytes/extent.ts";
import type { Layer, Place, PlacedSource } from "../../formats/format.ts";
import { dataPlaces } from "../../formats/layer-content.ts";

export class StackView {
  readonly sizeBytes: number;
  readonly #base: ByteSource;
  readonly #layers: readonly Layer[];

  constructor(base: ByteSource, layers: readonly Layer[]) {
    this.#base = base;
    this.#layers = layers;
    this.sizeBytes = layers.at(-1)?.virtualSizeBytes ?? base.sizeBytes;
  }

  /** What of `[from, to)` may be something other than zeros, each part with where its bytes lie; ascending. */
  data(from: number, to: number): Generator<Place> {
    return dataPlaces(this.#shown(this.#layers.length, from, Math.min(to, this.sizeBytes)));
  }

  /** What the layers above the lowest `height` hold of `[from, to)`, ascending and joined. */
  held(height: number, from: number, to: number): Iterable<Extent> {
    const end = Math.min(to, this.sizeBytes);
    let all: Iterable<Extent> = [];
    for (const [i, layer] of this.#layers.entries()) {
      if (i < height) continue;
      all = union(all, layer.extents(from, Math.min(end, layer.virtualSizeBytes)));
      // Beyond the end of a layer nothing shows of what lies below it.
      const tail = Math.max(from, layer.virtualSizeBytes);
      if (tail < end) all = union(all, [{ offset: tail, length: end - tail }]);
    }
    return within(coalesce(all), from, end);
  }

  *#shown(height: number, from: number, to: number): Generator<Place> {
    const layer = this.#layers[height - 1];
    if (!layer) {
      const end = Math.min(to, this.#base.sizeBytes);
      if ("places" in this.#base) yield* (this.#base as PlacedSource).places(from, end);
      else if (from < end) yield { offset: from, length: end - from, source: this.#base, at: from };
      return;
    }
    const end = Math.min(to, layer.virtualSizeBytes);
    let at = from;
    for (const place of layer.places(from, end)) {
      if (place.offset > at) yield* this.#shown(height - 1, at, place.offset);
      yield place;
      at = place.offset + place.length;
    }
    if (at < end) yield* this.#shown(height - 1, at, end);
  }
}
