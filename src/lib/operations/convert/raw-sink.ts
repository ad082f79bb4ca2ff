/**
 * Owns raw images as the output of a conversion: everything in its place, holes where nothing is.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import type { Destination, Sink, SinkState } from "./sink.ts";

export class RawSink implements Sink {
  readonly unitBytes = 1;
  readonly #target: BlockDevice;
  readonly #sizeBytes: number;

  constructor(target: BlockDevice, sizeBytes: number) {
    this.#target = target;
    this.#sizeBytes = sizeBytes;
  }

  data(offset: number, length: number): readonly Destination[] {
    return [{ offset, length, at: offset }];
  }

  zeros(): void {
    // They are what a new file is made of.
  }

  checkpoint(): SinkState {
    return {};
  }

  resume(offset: number): void {
    // What was written behind that, and is not known to be whole, goes.
    this.#target.resize(Math.min(offset, this.#target.sizeBytes));
  }

  finish(): void {
    this.#target.resize(this.#sizeBytes);
  }
}
