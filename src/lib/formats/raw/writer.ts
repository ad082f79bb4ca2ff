/**
 * Owns writing raw images: all data in its place, holes elsewhere. Into an empty file, or over a clone of the base.
 */
import type { ByteTarget } from "../../bytes/byte-source.ts";
import type { Destination, ImageWriter, WriterState } from "../image-writer.ts";

/** A target that may free space. */
interface RawTarget extends ByteTarget {
  punchHole(offset: number, length: number): boolean;
}

const ZEROS = new Uint8Array(1 << 20);

export class RawWriter implements ImageWriter {
  readonly unitBytes = 1;
  readonly #target: RawTarget;
  readonly #sizeBytes: number;
  readonly #isClone: boolean;

  /** @param isClone the target has the bytes of the base already: zeros have to be made */
  constructor(target: RawTarget, sizeBytes: number, isClone = false) {
    this.#target = target;
    this.#sizeBytes = sizeBytes;
    this.#isClone = isClone;
    if (isClone) target.resize(sizeBytes);
  }

  data(offset: number, length: number): readonly Destination[] {
    return [{ offset, length, at: offset }];
  }

  zeros(offset: number, length: number): void {
    // A new file reads as zeros.
    if (!this.#isClone || this.#target.punchHole(offset, length)) return;
    for (let at = 0; at < length; at += ZEROS.length)
      this.#target.write(ZEROS.subarray(0, Math.min(ZEROS.length, length - at)), offset + at);
  }

  checkpoint(): WriterState {
    return this.#isClone ? { clone: 1 } : {};
  }

  resume(offset: number): void {
    // Data written beyond that may be incomplete. A clone is overwritten.
    if (!this.#isClone) this.#target.resize(Math.min(offset, this.#target.sizeBytes));
  }

  finish(): void {
    this.#target.resize(this.#sizeBytes);
  }
}
