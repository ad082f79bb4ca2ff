/**
 * Owns the memory that says which frozen layer shows in each page of an image, so that a read of a deep stack is one look.
 * Made from the layers' bitmaps in memory, lowest first, in the background, and without touching what no layer has allocated.
 * layer-finder.ts reads it, in every thread.
 *
 * A page has the number of the highest entered layer that has any of its blocks allocated, if it has all of them, else MIXED:
 * there the layers are asked. Layers are only added, on top. A reader with fewer layers takes numbers above its own for
 * MIXED, so stacks with the same lower layers share a map. Until a layer is entered, readers look at it before the map, so it
 * does not matter which of its pages the map has already.
 */
import type { Extent } from "../../bytes/extent.ts";
import type { Shared } from "../../bytes/shared.ts";
import { makeYielder } from "../../context.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import type { ResidentLayer } from "./resident-layer.ts";

/** The unit of the map: what clients write at least, mostly. A whole number of bits of bitmap bytes. */
export const OWNED_BYTES = 4096;
const PAGES_PER_BITMAP_BYTE = (8 * BLOCK_BYTES) / OWNED_BYTES;
/** How much of a bitmap is entered at once. */
const PIECE_BITMAP_BYTES = 64 << 10;
/** The event loop turns as often as this meanwhile. */
const PACE = { everyMs: 1, restMs: 0 };
/** Maps of more layers than this have two bytes a page from the start: most of the numbers of one byte are left for growth. */
const NARROW_LAYERS = 128;

/** The map as threads have it. */
export interface PassedOwners {
  /** Per page: the number of the layer, counted from 1; 0 for none; the highest value is MIXED. */
  readonly owners: Shared<Uint8Array> | Shared<Uint16Array>;
  /** One word: how many layers are in it. */
  readonly entered: Shared<Int32Array>;
  /** How many layers of the stack are below the first one of the map. */
  readonly first: number;
}

/** The number MIXED. */
export function mixedOf({ BYTES_PER_ELEMENT }: PassedOwners["owners"]): number {
  return 2 ** (8 * BYTES_PER_ELEMENT) - 1;
}

/** A layer whose bitmap is in memory. */
export interface MappableLayer {
  readonly resident: ResidentLayer;
  /** The parts of its bitmap that may have bits, in bytes of the bitmap; undefined: any. */
  readonly marked: readonly Extent[] | undefined;
}

export class OwnerMap {
  readonly passed: PassedOwners;
  readonly #mixed: number;
  #count = 0;
  /** How many of its layers each user has. */
  readonly #users: number[];
  #longestBytes = 0;
  #entering: Promise<void> = Promise.resolve();

  private constructor(passed: PassedOwners, count: number) {
    this.passed = passed;
    this.#mixed = mixedOf(passed.owners);
    this.#users = [count];
  }

  /**
   * A map of these layers, bottom to top, which are entered in the background.
   *
   * @param first how many layers of the stack are below them
   * @returns undefined where there is no memory for it
   */
  static of(layers: readonly MappableLayer[], first: number): OwnerMap | undefined {
    const pages = Math.ceil(Math.max(...layers.map(({ resident }) => resident.virtualSizeBytes)) / OWNED_BYTES);
    const owners = newOwners(pages, layers.length > NARROW_LAYERS);
    if (!owners) return undefined;
    const map = new OwnerMap({ owners, entered: new Int32Array(new SharedArrayBuffer(4)), first }, layers.length);
    return map.add(layers) ? map : undefined;
  }

  /** How many layers it has, or will have. */
  get count(): number {
    return this.#count;
  }

  /** Adds layers on top. @returns false if they do not fit: a new map is needed */
  add(layers: readonly MappableLayer[]): boolean {
    const sizeBytes = this.passed.owners.length * OWNED_BYTES;
    if (this.#count + layers.length >= this.#mixed) return false;
    if (layers.some(({ resident }) => resident.virtualSizeBytes > sizeBytes)) return false;
    this.#count += layers.length;
    this.#entering = this.#entering.then(() => this.#enterAll(layers));
    return true;
  }

  /** Has it layers that no user has any more? They are only in the way. */
  get isOutgrown(): boolean {
    return this.#count > Math.max(...this.#users);
  }

  /** One more user, which has that many of its layers. */
  use(count: number): this {
    this.#users.push(count);
    return this;
  }

  /** One user less, as it was counted; after the last one no layer is entered any more. */
  release(count: number): void {
    this.#users.splice(this.#users.indexOf(count), 1);
  }

  /** Resolves when all layers that were added are in it. */
  get complete(): Promise<void> {
    return this.#entering;
  }

  async #enterAll(layers: readonly MappableLayer[]): Promise<void> {
    const { entered } = this.passed;
    const yieldToEventLoop = makeYielder(PACE);
    for (const { resident, marked } of layers) {
      const number = Atomics.load(entered, 0) + 1;
      for (const _ of this.#enter(resident, marked, number)) {
        await yieldToEventLoop();
        if (this.#users.length === 0) return;
      }
      Atomics.store(entered, 0, number);
    }
  }

  /** Yields after each piece. */
  *#enter(layer: ResidentLayer, marked: MappableLayer["marked"], number: number): Generator<undefined> {
    const { virtualSizeBytes, map } = layer;
    yield* this.#hide(virtualSizeBytes);
    this.#longestBytes = Math.max(this.#longestBytes, virtualSizeBytes);
    for (const { offset, length } of marked ?? [{ offset: 0, length: map.bytes.length }]) {
      for (let at = offset; at < offset + length; at += PIECE_BITMAP_BYTES) {
        const end = Math.min(at + PIECE_BITMAP_BYTES, offset + length);
        this.#enterBlocks(layer, number, at * 8, Math.min(end * 8, map.blockCount));
        yield;
      }
    }
  }

  /** A layer hides what is below beyond its end: the layers are asked there. */
  *#hide(fromBytes: number): Generator<undefined> {
    const { owners } = this.passed;
    const end = Math.ceil(this.#longestBytes / OWNED_BYTES);
    for (let page = Math.floor(fromBytes / OWNED_BYTES); page < end; page++) {
      if (owners[page] !== 0) owners[page] = this.#mixed;
      if (page % (PIECE_BITMAP_BYTES * PAGES_PER_BITMAP_BYTE) === 0) yield;
    }
  }

  #enterBlocks({ map }: ResidentLayer, number: number, from: number, to: number): void {
    for (let block = from; block < to; ) {
      const isAllocated = map.has(block);
      const end = map.runEnd(block, to, isAllocated);
      if (isAllocated) this.#own(number, block * BLOCK_BYTES, end * BLOCK_BYTES);
      block = end;
    }
  }

  #own(number: number, from: number, end: number): void {
    const { owners } = this.passed;
    const first = Math.ceil(from / OWNED_BYTES);
    const last = Math.floor(end / OWNED_BYTES);
    if (first < last) owners.fill(number, first, last);
    if (from % OWNED_BYTES !== 0) owners[first - 1] = this.#mixed;
    if (end % OWNED_BYTES !== 0) owners[last] = this.#mixed;
  }
}

function newOwners(pages: number, isWide: boolean): PassedOwners["owners"] | undefined {
  try {
    return isWide ? new Uint16Array(new SharedArrayBuffer(2 * pages)) : new Uint8Array(new SharedArrayBuffer(pages));
  } catch {
    return undefined;
  }
}
