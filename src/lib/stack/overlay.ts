/**
 * Owns a base and its layers as one read-only device: each byte comes from the topmost layer that holds it, else from
 * the base. Reads are split by extent, never by block.
 */
import { readZeroFilled } from "../bytes/byte-source.ts";
import { coalesce, type Extent, union, within } from "../bytes/extent.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { CowError } from "../errors.ts";
import type { Layer } from "../formats/format.ts";

/**
 * What any of these layers holds of `[from, to)`, ascending and joined. Beyond the end of a layer that is shorter than the
 * others nothing shows of what lies below it, so that it holds zeros there.
 */
export function heldBy(layers: readonly Layer[], from: number, to: number): Iterable<Extent> {
  let all: Iterable<Extent> = [];
  for (const layer of layers) {
    all = union(all, layer.extents(from, to));
    const tail = Math.max(from, layer.virtualSizeBytes);
    if (tail < to) all = union(all, [{ offset: tail, length: to - tail }]);
  }
  return coalesce(all);
}

export class Overlay implements BlockDevice {
  readonly name: string;
  readonly sizeBytes: number;
  readonly writable = false;
  readonly fd = undefined;
  readonly seesHoles: boolean;
  readonly allocationUnitBytes: number;
  readonly #base: BlockDevice;
  readonly #layers: readonly Layer[];
  /** Files of layers of which addressOf() has told. */
  readonly #addressed = new Set<Partial<BlockDevice>>();

  /** @param layers bottom to top; each must fit what lies below it (stack.ts checks that) */
  constructor(name: string, base: BlockDevice, layers: readonly Layer[]) {
    this.name = name;
    this.#base = base;
    this.#layers = layers;
    this.sizeBytes = layers.at(-1)?.virtualSizeBytes ?? base.sizeBytes;
    this.seesHoles = base.seesHoles;
    this.allocationUnitBytes = base.allocationUnitBytes;
  }

  read(target: Uint8Array, offsetBytes: number): number {
    const length = Math.max(0, Math.min(target.length, this.sizeBytes - offsetBytes));
    this.#readBelow(this.#layers.length, target.subarray(0, length), offsetBytes);
    return length;
  }

  /** Where a part lies in memory that one layer, or the base, holds all of. */
  addressOf(offsetBytes: number, lengthBytes: number): number {
    const end = offsetBytes + lengthBytes;
    for (let depth = this.#layers.length - 1; depth >= 0; depth--) {
      const layer = this.#layers[depth] as Layer;
      if (end > layer.virtualSizeBytes) return 0;
      if (layer.isClearOf?.(offsetBytes, end)) continue;
      for (const { offset, length, source, at } of layer.places(offsetBytes, end)) {
        if (offset > offsetBytes || length < lengthBytes) return 0;
        const device = source as Partial<BlockDevice>;
        this.#addressed.add(device);
        return device.addressOf?.(at, lengthBytes) ?? 0;
      }
    }
    return this.#base.addressOf?.(offsetBytes, lengthBytes) ?? 0;
  }

  invalidateMappings(): void {
    this.#base.invalidateMappings?.();
    for (const device of this.#addressed) device.invalidateMappings?.();
  }

  /** Reads through the lowest `depth` layers. */
  #readBelow(depth: number, target: Uint8Array, offset: number): void {
    const layer = this.#layers[depth - 1];
    if (!layer) {
      readZeroFilled(this.#base, target, offset);
      return;
    }
    // A layer may be longer than what lies below it: there nothing is.
    const inside = Math.max(0, Math.min(target.length, layer.virtualSizeBytes - offset));
    if (inside < target.length) target.fill(0, inside);
    let at = offset;
    const end = offset + inside;
    if (inside > 0 && layer.isClearOf?.(offset, end)) {
      this.#readBelow(depth - 1, target.subarray(0, inside), offset);
      return;
    }
    for (const place of layer.places(offset, end)) {
      const start = place.offset;
      if (start > at) this.#readBelow(depth - 1, target.subarray(at - offset, start - offset), at);
      at = start + place.length;
      readZeroFilled(place.source, target.subarray(start - offset, at - offset), place.at);
    }
    if (at < end) this.#readBelow(depth - 1, target.subarray(at - offset), at);
  }

  *dataExtents(from: number, to: number): Generator<Extent> {
    const end = Math.min(to, this.sizeBytes);
    let all: Iterable<Extent> = this.#base.dataExtents(from, Math.min(end, this.#base.sizeBytes));
    for (const layer of this.#layers) all = union(all, layer.extents(from, end));
    yield* within(all, from, end);
  }

  write(): never {
    throw new CowError("permission", "this stack is open for reading only", { file: this.name });
  }

  resize(): never {
    return this.write();
  }

  flush(): void {
    // Nothing is ever written.
  }

  punchHole(): boolean {
    return false;
  }

  close(): void {
    // Whoever opened base and layers closes them.
  }
}
