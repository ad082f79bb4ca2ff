/**
 * Owns a base and its layers as one read-only device: each byte comes from the topmost layer that has it allocated,
 * else from the base. formats/layered-image.ts owns the walk; deep served stacks are looked up by live/layer-finder.ts first.
 */
import { type ByteSource, readZeroFilled } from "../bytes/byte-source.ts";
import { type Extent, union } from "../bytes/extent.ts";
import type { BlockDevice, OnCacheMiss } from "../device/block-device.ts";
import { type Layer, NOT_ALLOCATED } from "../formats/format.ts";
import { allocatedBy, LayeredImage, shown, topLevel } from "../formats/layered-image.ts";
import { ImageDevice } from "./image-device.ts";
import type { LayerFinder } from "./live/layer-finder.ts";

export interface OverlayOptions {
  /** Told for each part of a read which level it is read from, also where addressOf() has an address: 0 is the base, … */
  readonly onRead?: (level: number) => void;
  /** Finds the layer of most parts at once. */
  readonly finder?: LayerFinder | undefined;
}

/** Layers over a base as one read-only device. */
export class Overlay extends ImageDevice {
  readonly #base: BlockDevice;
  readonly #layers: readonly Layer[];
  /** Sources of layers whose addresses addressOf() has returned, or may return. */
  readonly #addressed: Set<Partial<BlockDevice>>;
  readonly #onRead: ((level: number) => void) | undefined;
  readonly #finder: LayerFinder | undefined;
  /** What #find() found. */
  #device: Partial<BlockDevice>;
  #at = 0;
  #level = 0;

  /** @param layers bottom to top; each must fit its backing (open.ts checks that) */
  constructor(name: string, base: BlockDevice, layers: readonly Layer[], { onRead, finder }: OverlayOptions = {}) {
    super(new LayeredImage(name, base, layers, onRead));
    this.#onRead = onRead;
    this.#base = base;
    this.#device = base;
    this.#layers = layers;
    this.#finder = finder;
    this.#addressed = new Set(finder?.sources);
  }

  /** Finds the place of a range that is all in one source, in one piece. */
  #find(from: number, end: number): boolean {
    const finder = this.#finder;
    let top = this.#layers.length;
    if (finder) {
      if (finder.findRun(from, end) < end) return false;
      if (finder.foundAt !== NOT_ALLOCATED) return this.#keep(finder.source, finder.foundAt, finder.level);
      top = finder.level;
    }
    if (topLevel(this.#layers, from, end, top) === 0) return this.#keep(this.#base, from, 0);
    for (const { offset, length, source, at, level } of shown(this.#base, this.#layers, from, end, top)) {
      if (offset > from || length < end - from) return false;
      this.#addressed.add(source as Partial<BlockDevice>);
      return this.#keep(source, at, level);
    }
    return false;
  }

  #keep(source: ByteSource, at: number, level: number): true {
    this.#device = source as Partial<BlockDevice>;
    this.#at = at;
    this.#level = level;
    return true;
  }

  override read(target: Uint8Array, offsetBytes: number): number {
    const finder = this.#finder;
    if (!finder) return super.read(target, offsetBytes);
    const length = Math.max(0, Math.min(target.length, this.sizeBytes - offsetBytes));
    const end = offsetBytes + length;
    for (let at = offsetBytes; at < end; ) {
      const stop = finder.findRun(at, end);
      const part = stop - at === target.length ? target : target.subarray(at - offsetBytes, stop - offsetBytes);
      if (finder.foundAt === NOT_ALLOCATED) super.read(part, at);
      else {
        this.#onRead?.(finder.level);
        readZeroFilled(finder.source, part, finder.foundAt);
      }
      at = stop;
    }
    return length;
  }

  /** Of a part that is entirely in one layer, or in the base. */
  tryRead(target: Uint8Array, offsetBytes: number, onCacheMiss: OnCacheMiss): boolean {
    if (!this.#find(offsetBytes, offsetBytes + target.length)) return false;
    const isRead = this.#device.tryRead?.(target, this.#at, onCacheMiss) ?? false;
    if (isRead) this.#onRead?.(this.#level);
    return isRead;
  }

  /** The address of a part that is entirely in one layer, or in the base. */
  addressOf(offsetBytes: number, lengthBytes: number): number {
    if (!this.#find(offsetBytes, offsetBytes + lengthBytes)) return 0;
    const address = this.#device.addressOf?.(this.#at, lengthBytes) ?? 0;
    if (address > 0) this.#onRead?.(this.#level);
    return address;
  }

  invalidateMappings(): void {
    this.#base.invalidateMappings?.();
    for (const device of this.#addressed) device.invalidateMappings?.();
  }

  /** Allocated parts count as data, without asking the layer's file for each extent. */
  override dataExtents(from: number, to: number): Iterable<Extent> {
    const end = Math.min(to, this.sizeBytes);
    const inBase = this.#base.dataExtents(from, Math.min(end, this.#base.sizeBytes));
    return union(inBase, allocatedBy(this.#layers, from, end));
  }
}

/** The backing of a layer, counted from 1. */
export function belowLayer(
  { base, layers }: { readonly base: BlockDevice; readonly layers: readonly Layer[] },
  number: number,
): BlockDevice {
  return number === 1 ? base : new Overlay(base.name, base, layers.slice(0, number - 1));
}
