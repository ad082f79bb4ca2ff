/**
 * Owns finding the layer that shows in a part of an image in one look, whatever the number of layers: by a map of owners
 * (owner-map.ts), and by looking at the layers that are not in it yet. For one thread.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { assert } from "../../errors.ts";
import { NOT_ALLOCATED } from "../../formats/format.ts";
import { mixedOf, OWNED_BYTES, type PassedOwners } from "./owner-map.ts";
import type { ResidentLayer } from "./resident-layer.ts";

export class LayerFinder {
  /** Which level the run that findRun() found is in, 0 for the base, or the highest one that may show there. */
  level = 0;
  /** Where the run begins in the level's source; NOT_ALLOCATED where the levels up to `level` are to be asked. */
  foundAt = NOT_ALLOCATED;
  readonly #owners: PassedOwners["owners"];
  readonly #entered: PassedOwners["entered"];
  /** How many layers are below the map. */
  readonly #first: number;
  /** Those in the map, as far as this stack has them, and above. */
  readonly #layers: readonly ResidentLayer[];
  /** The highest number of the map that is one of these layers. */
  readonly #highest: number;
  /** What may be something else than zeros where none of them has anything allocated. */
  readonly #clearBytes: number;
  readonly #base: ByteSource;

  /**
   * @param layers all of the stack, bottom to top; undefined for one whose bitmap is not in memory
   * @returns undefined without a map, or if it can't be used
   */
  static over(
    base: ByteSource,
    layers: readonly (ResidentLayer | undefined)[],
    owners: PassedOwners | undefined,
  ): LayerFinder | undefined {
    const upper = layers.slice(owners?.first);
    const residents = upper.flatMap((layer) => layer ?? []);
    return owners && residents.length === upper.length ? new LayerFinder(base, residents, owners) : undefined;
  }

  /** @param layers bottom to top, from the first one of the map on */
  private constructor(base: ByteSource, layers: readonly ResidentLayer[], { owners, entered, first }: PassedOwners) {
    this.#base = base;
    this.#owners = owners;
    this.#entered = entered;
    this.#first = first;
    this.#layers = layers;
    this.#highest = Math.min(this.#layers.length, mixedOf(owners) - 1);
    this.#clearBytes = Math.min(...this.#layers.map(({ virtualSizeBytes }) => virtualSizeBytes));
  }

  /** The source of `level`, where something was found. */
  get source(): ByteSource {
    return this.level === 0 ? this.#base : this.#at(this.level - this.#first).source;
  }

  get sources(): readonly ByteSource[] {
    return this.#layers.map(({ source }) => source);
  }

  #at(number: number): ResidentLayer {
    const layer = this.#layers[number - 1];
    assert(layer, "a layer of the stack");
    return layer;
  }

  /** Finds the run that begins at an offset: one level throughout, as far as the map can tell. @returns its end, at most `end` */
  findRun(offset: number, end: number): number {
    const count = this.#layers.length;
    // Before the map is looked at: what is entered meanwhile is looked at twice, never missed.
    const entered = Math.min(count, Atomics.load(this.#entered, 0));
    let stop = end;
    for (let number = count; number > entered; number--) {
      const layer = this.#at(number);
      if (offset >= layer.virtualSizeBytes) return this.#ask(count, stop);
      stop = layer.findRun(offset, Math.min(stop, layer.virtualSizeBytes));
      if (layer.foundAt !== NOT_ALLOCATED) return this.#found(number, layer.foundAt, stop);
    }
    return this.#look(offset, stop);
  }

  #look(offset: number, end: number): number {
    const owners = this.#owners;
    let page = Math.floor(offset / OWNED_BYTES);
    const number = owners[page] ?? 0;
    do page++;
    while (page * OWNED_BYTES < end && owners[page] === number);
    const stop = Math.min(end, page * OWNED_BYTES);
    const count = this.#layers.length;
    if (number > this.#highest) return this.#ask(count, stop);
    if (number > 0) return this.#found(number, this.#at(number).dataOffsetBytes + offset, stop);
    if (offset >= this.#clearBytes) return this.#ask(count, stop);
    if (this.#first === 0) return this.#found(0, offset, Math.min(stop, this.#clearBytes));
    return this.#ask(0, Math.min(stop, this.#clearBytes));
  }

  /** @param number counted from the first layer of the map; 0 is what is below it */
  #found(number: number, at: number, stop: number): number {
    this.level = number === 0 ? 0 : this.#first + number;
    this.foundAt = at;
    return stop;
  }

  #ask(number: number, stop: number): number {
    this.level = this.#first + number;
    this.foundAt = NOT_ALLOCATED;
    return stop;
  }
}
