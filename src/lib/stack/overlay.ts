/**
 * Owns a base and its layers as one read-only device: each byte comes from the topmost layer that has it allocated,
 * else from the base. formats/layered-image.ts owns the walk.
 */
import { type Extent, union } from "../bytes/extent.ts";
import type { BlockDevice } from "../device/block-device.ts";
import type { Layer } from "../formats/format.ts";
import { allocatedBy, LayeredImage, shown, topLevel } from "../formats/layered-image.ts";
import { ImageDevice } from "./image-device.ts";

/** Layers over a base as one read-only device. */
export class Overlay extends ImageDevice {
  readonly #base: BlockDevice;
  readonly #layers: readonly Layer[];
  /** Files of layers whose addresses addressOf() has returned. */
  readonly #addressed = new Set<Partial<BlockDevice>>();

  readonly #onRead: ((level: number) => void) | undefined;

  /**
   * @param layers bottom to top; each must fit its backing (open.ts checks that)
   * @param onRead as LayeredImage has it; also told where addressOf() has an address
   */
  constructor(name: string, base: BlockDevice, layers: readonly Layer[], onRead?: (level: number) => void) {
    super(new LayeredImage(name, base, layers, onRead));
    this.#onRead = onRead;
    this.#base = base;
    this.#layers = layers;
  }

  /** The address of a part that is entirely in one layer, or in the base. */
  addressOf(offsetBytes: number, lengthBytes: number): number {
    const end = offsetBytes + lengthBytes;
    if (topLevel(this.#layers, offsetBytes, end) === 0)
      return this.#noted(this.#base.addressOf?.(offsetBytes, lengthBytes), 0);
    for (const { offset, length, source, at, level } of shown(this.#base, this.#layers, offsetBytes, end)) {
      if (offset > offsetBytes || length < lengthBytes) return 0;
      const device = source as Partial<BlockDevice>;
      this.#addressed.add(device);
      return this.#noted(device.addressOf?.(at, lengthBytes), level);
    }
    return 0;
  }

  #noted(address = 0, level: number): number {
    if (address > 0) this.#onRead?.(level);
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
