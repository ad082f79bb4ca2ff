/**
 * Owns unpacking without the blocks: keeps head and bitmap, discards the rest. For checking a pack to its last byte
 * without space for its content.
 */
import type { ByteTarget } from "../../../bytes/byte-source.ts";
import type { Extent } from "../../../bytes/extent.ts";

export class MetadataTarget implements ByteTarget {
  readonly name: string;
  readonly allocationUnitBytes: number;
  readonly seesHoles = false;
  readonly #kept: ByteTarget;
  /** Where the bitmap ends; known once the unpacker has sized the file for it. */
  #limit = 0;
  #sizeBytes = 0;

  constructor(name: string, kept: ByteTarget) {
    this.name = name;
    this.#kept = kept;
    this.allocationUnitBytes = kept.allocationUnitBytes;
  }

  /** As long as the whole file would be. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  read(target: Uint8Array, offsetBytes: number): number {
    return this.#kept.read(target, offsetBytes);
  }

  dataExtents(from: number, to: number): Iterable<Extent> {
    return this.#kept.dataExtents(from, to);
  }

  write(source: Uint8Array, offsetBytes: number): void {
    this.#sizeBytes = Math.max(this.#sizeBytes, offsetBytes + source.length);
    if (offsetBytes < this.#limit) this.#kept.write(source, offsetBytes);
  }

  resize(sizeBytes: number): void {
    this.#limit = sizeBytes;
    this.#sizeBytes = Math.max(this.#sizeBytes, sizeBytes);
    this.#kept.resize(sizeBytes);
  }

  flush(): void {
    // Nothing here needs to be durable.
  }
}
