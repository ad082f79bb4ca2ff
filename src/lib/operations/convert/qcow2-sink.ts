/**
 * Owns qcow2 files as the output of a conversion.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import { type NewQcow2, Qcow2Writer } from "../../formats/qcow2/writer.ts";
import type { Destination, Sink, SinkState } from "./sink.ts";

export class Qcow2Sink implements Sink {
  readonly unitBytes: number;
  readonly #writer: Qcow2Writer;
  readonly #hasBacking: boolean;

  constructor(target: BlockDevice, file: NewQcow2) {
    this.unitBytes = file.clusterBytes;
    this.#writer = new Qcow2Writer(target, file);
    this.#hasBacking = file.backing !== undefined;
  }

  data(offset: number, length: number): Iterable<Destination> {
    return this.#writer.data(offset, length);
  }

  zeros(offset: number, length: number): void {
    // Without a backing file they are what is not there.
    if (this.#hasBacking) this.#writer.zeros(offset, length);
  }

  checkpoint(): SinkState {
    this.#writer.checkpoint();
    return { clusters: this.#writer.clusters };
  }

  resume(offset: number, state: SinkState): void {
    this.#writer.resume(offset, state["clusters"] ?? 0);
  }

  finish(): void {
    this.#writer.finish();
  }
}
