/**
 * Owns an image that is served for reading only: a base, or a stack of layers.
 */
import { readZeroFilled } from "../../bytes/byte-source.ts";
import type { BlockDevice, OnCacheMiss } from "../../device/block-device.ts";
import { CowError } from "../../errors.ts";
import type { Layer } from "../../formats/format.ts";
import type { CheckpointLevel } from "./checkpoint-level.ts";
import type { FileWatch } from "./file-watch.ts";
import type { LiveImage, OnStatus, StatusKind } from "./image.ts";
import type { LevelReads } from "./level-reads.ts";
import { blockStatus, type Levels } from "./status.ts";

export interface PlainImageParts {
  /** Base and layers as one: an Overlay that notes what it reads, or the base. */
  readonly below: BlockDevice;
  readonly base: BlockDevice;
  readonly layers: readonly Layer[];
  readonly checkpoints: readonly CheckpointLevel[];
  readonly watch: FileWatch;
  readonly reads: LevelReads;
}

export class PlainImage implements LiveImage {
  readonly writable = false;
  readonly zeroesFast = false;
  readonly failed = false;
  readonly reads: LevelReads;
  #device: BlockDevice;
  #parts: Levels;
  #watch: FileWatch;

  constructor({ below, watch, reads, ...parts }: PlainImageParts) {
    this.#device = below;
    this.#watch = watch;
    this.#parts = parts;
    this.reads = reads;
  }

  /** Takes other parts, between two requests. */
  become({ below, watch, base, layers, checkpoints }: PlainImageParts): void {
    this.#device = below;
    this.#watch = watch;
    this.#parts = { base, layers, checkpoints };
  }

  get name(): string {
    return this.#device.name;
  }

  get sizeBytes(): number {
    return this.#device.sizeBytes;
  }

  lookAtFiles(nowNs: number): void {
    this.#watch.look(nowNs);
  }

  read(target: Uint8Array, offsetBytes: number): void {
    this.#note(true);
    readZeroFilled(this.#device, target, offsetBytes);
  }

  tryRead(target: Uint8Array, offsetBytes: number, onCacheMiss: OnCacheMiss): boolean {
    return this.#note(this.#device.tryRead?.(target, offsetBytes, onCacheMiss) ?? false);
  }

  addressOf(offsetBytes: number, lengthBytes: number): number {
    const address = this.#device.addressOf?.(offsetBytes, lengthBytes) ?? 0;
    this.#note(address > 0);
    return address;
  }

  /** A base alone says nothing by itself. */
  #note(isRead: boolean): boolean {
    if (isRead && this.#parts.layers.length === 0) this.reads.note(0);
    return isRead;
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
