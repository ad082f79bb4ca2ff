/**
 * Owns several layers as one, for formats whose part has several: the devices of a dm-cow table.
 */
import type { Place } from "../bytes/byte-source.ts";
import type { Extent } from "../bytes/extent.ts";
import type { Layer } from "./format.ts";
import { allocatedBy, shown } from "./layered-image.ts";

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
    return allocatedBy(this.#layers, from, Math.min(to, this.virtualSizeBytes));
  }

  places(from: number, to: number): Iterable<Place> {
    return shown(undefined, this.#layers, from, to);
  }
}
