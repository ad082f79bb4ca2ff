/**
 * Owns an image that is served for reading only: a base, or a stack of layers.
 */
import { readZeroFilled } from "../../bytes/byte-source.ts";
import type { BlockDevice, OnCacheMiss } from "../../device/block-device.ts";
import { CowError } from "../../errors.ts";
import type { Layer } from "../../formats/format.ts";
import { heldData } from "../../formats/layer-content.ts";
import type { FileWatch } from "./file-watch.ts";
import type { LiveImage, OnStatus, StatusKind } from "./image.ts";
import { type Level, walkAllocation, walkDepth, walkHeld } from "./status.ts";

/** A layer as the walks of status.ts see it. */
function levelOfLayer(layer: Layer): Level {
  return {
    held: (from, to) => layer.extents(from, to),
    // The holes of its file are zeros of the image.
    data: (from, to) => heldData(layer, from, to),
  };
}

/** A base: it holds what is not a hole. */
function levelOfBase(base: BlockDevice): Level {
  const data = (from: number, to: number) => base.dataExtents(from, Math.min(to, base.sizeBytes));
  return { held: data, data: (from, to) => [{ offset: from, length: to - from }] };
}

/** What a device with its parts is for the walks, top to bottom. */
export function levelsOf(base: BlockDevice, layers: readonly Layer[]): Level[] {
  return [...layers.map(levelOfLayer).reverse(), levelOfBase(base)];
}

export class PlainImage implements LiveImage {
  readonly writable = false;
  readonly zeroesFast = false;
  readonly failed = false;
  readonly #device: BlockDevice;
  readonly #levels: readonly Level[];
  readonly #hasLayers: boolean;
  readonly #watch: FileWatch;

  /** @param device base and layers as one */
  constructor(device: BlockDevice, base: BlockDevice, layers: readonly Layer[], watch: FileWatch) {
    this.#device = device;
    this.#watch = watch;
    this.#levels = levelsOf(base, layers);
    this.#hasLayers = layers.length > 0;
  }

  get name(): string {
    return this.#device.name;
  }

  get sizeBytes(): number {
    return this.#device.sizeBytes;
  }

  lookAtFiles(): void {
    this.#watch.look();
  }

  read(target: Uint8Array, offsetBytes: number): void {
    readZeroFilled(this.#device, target, offsetBytes);
  }

  tryRead(target: Uint8Array, offsetBytes: number, onCacheMiss: OnCacheMiss): boolean {
    return this.#device.tryRead?.(target, offsetBytes, onCacheMiss) ?? false;
  }

  addressOf(offsetBytes: number, lengthBytes: number): number {
    return this.#device.addressOf?.(offsetBytes, lengthBytes) ?? 0;
  }

  invalidateMappings(): void {
    this.#device.invalidateMappings?.();
  }

  write(): never {
    throw new CowError("permission", "is open for reading only", { file: this.name });
  }

  zero(): never {
    return this.write();
  }

  trim(): never {
    return this.write();
  }

  commit(): void {
    // Nothing is ever changed.
  }

  flush(): void {
    // Nothing is ever changed.
  }

  cache(): void {
    // The kernel reads ahead by itself.
  }

  status(kind: StatusKind, offsetBytes: number, lengthBytes: number, onStatus: OnStatus): void {
    const end = offsetBytes + lengthBytes;
    if (kind === "allocation") walkAllocation(this.#levels, offsetBytes, end, onStatus);
    else if (kind === "depth") walkDepth(this.#levels, offsetBytes, end, onStatus);
    else walkHeld(this.#hasLayers ? this.#levels[0] : undefined, offsetBytes, end, onStatus);
  }
}
