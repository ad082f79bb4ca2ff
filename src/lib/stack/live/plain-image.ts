/**
 * Owns an image that is served for reading only: a base, or a stack of layers.
 */
import { readZeroFilled } from "../../bytes/byte-source.ts";
import type { BlockDevice, OnCacheMiss } from "../../device/block-device.ts";
import { CowError } from "../../errors.ts";
import type { Layer } from "../../formats/format.ts";
import type { FileWatch } from "./file-watch.ts";
import type { LiveImage, OnStatus, StatusKind } from "./image.ts";
import { blockStatus } from "./status.ts";

export class PlainImage implements LiveImage {
  readonly writable = false;
  readonly zeroesFast = false;
  readonly failed = false;
  readonly #device: BlockDevice;
  readonly #parts: { readonly base: BlockDevice; readonly layers: readonly Layer[] };
  readonly #watch: FileWatch;

  /** @param device base and layers as one */
  constructor(device: BlockDevice, base: BlockDevice, layers: readonly Layer[], watch: FileWatch) {
    this.#device = device;
    this.#watch = watch;
    this.#parts = { base, layers };
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

  status(kind: StatusKind, offsetBytes: number, lengthBytes: number, onStatus: OnStatus): void {
    blockStatus(kind, this.#parts, [offsetBytes, offsetBytes + lengthBytes], onStatus);
  }
}
