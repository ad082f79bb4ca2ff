/**
 * Owns writing raw images: all data in its place, holes elsewhere. Into an empty file, or over a clone of the base.
 */
import { writeZeros } from "../../bytes/zero.ts";
import type { Destination, ImageWriter, NewTarget, WriterState, WrittenFormat } from "../image-writer.ts";

export class RawWriter implements ImageWriter {
  readonly unitBytes = 1;
  readonly #target: NewTarget;
  readonly #sizeBytes: number;
  readonly #isClone: boolean;

  /** @param isClone the target has the bytes of the base already: zeros have to be made */
  constructor(target: NewTarget, sizeBytes: number, isClone = false) {
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
    writeZeros(this.#target, offset, offset + length);
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

export const rawWritten: WrittenFormat<"raw"> = {
  id: "raw",
  base: "none",
  sizeUnitBytes: 1,
  options: [],
  isPlain: true,
  layout: ({ sizeBytes }) => ({
    granularityBytes: null,
    makeWriter: (target, _beside, isClone) => new RawWriter(target, sizeBytes, isClone),
  }),
};
