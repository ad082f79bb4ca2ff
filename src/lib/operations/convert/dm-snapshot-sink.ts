/**
 * Owns dm-snapshot stores as the output of a conversion: one exception a chunk, in the order of the image, without holes.
 * The header comes last: what is not complete is no store.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import { ChunkColumn } from "../../formats/dm-snapshot/chunk-column.ts";
import { encodeHeader } from "../../formats/dm-snapshot/header.ts";
import { chunksNeeded, dataChunk, type StoreGeometry } from "../../formats/dm-snapshot/layout.ts";
import { writeTuples, zeroTuples } from "../../formats/dm-snapshot/tuples.ts";
import type { Destination, Sink, SinkState } from "./sink.ts";

/** Tuples that are kept until they are written together. */
const MOST_WAITING = 1 << 16;

export class DmSnapshotSink implements Sink {
  readonly unitBytes: number;
  readonly #target: BlockDevice;
  readonly #geometry: StoreGeometry;
  readonly #waiting = new ChunkColumn();
  #written = 0;

  constructor(target: BlockDevice, geometry: StoreGeometry) {
    this.unitBytes = geometry.chunkBytes;
    this.#target = target;
    this.#geometry = geometry;
  }

  *data(offset: number, length: number): Generator<Destination> {
    const { chunkBytes, perArea } = this.#geometry;
    for (let at = offset; at < offset + length; ) {
      const index = this.#written + this.#waiting.length;
      const left = Math.ceil((offset + length - at) / chunkBytes);
      // An area of tuples stands between the data of one area and that of the next.
      const inRow = Math.min(left, perArea - (index % perArea));
      for (let i = 0; i < inRow; i++) this.#waiting.push(at / chunkBytes + i);
      const stop = Math.min(offset + length, at + inRow * chunkBytes);
      yield { offset: at, length: stop - at, at: dataChunk(this.#geometry, index) * chunkBytes };
      at = stop;
      if (this.#waiting.length >= MOST_WAITING) this.#writeTuples();
    }
  }

  /** A chunk of zeros is a chunk like any other; in a new file a hole. */
  zeros(offset: number, length: number): void {
    for (const _ of this.data(offset, length));
  }

  checkpoint(): SinkState {
    this.#writeTuples();
    return { exceptions: this.#written };
  }

  resume(_offset: number, state: SinkState): void {
    this.#written = state["exceptions"] ?? 0;
    const { perArea, chunkBytes } = this.#geometry;
    // What was written behind that, and is not known to be whole, goes.
    const end = this.#written === 0 ? 0 : (dataChunk(this.#geometry, this.#written - 1) + 1) * chunkBytes;
    this.#target.resize(end);
    if (this.#written > 0) zeroTuples(this.#target, this.#geometry, this.#written, Math.ceil(this.#written / perArea));
  }

  finish(): void {
    this.#writeTuples();
    const { chunkSectors, chunkBytes } = this.#geometry;
    // In a new file whatever is not written is zero, and so is the end of the list.
    this.#target.resize(chunksNeeded(this.#geometry, this.#written) * chunkBytes);
    this.#target.flush();
    this.#target.write(encodeHeader({ valid: 1, chunkSectors }), 0);
  }

  #writeTuples(): void {
    const [waiting, first] = [this.#waiting, this.#written];
    writeTuples(this.#target, this.#geometry, first, {
      length: waiting.length,
      oldAt: (index) => waiting.at(index),
      newAt: (index) => dataChunk(this.#geometry, first + index),
    });
    this.#written += waiting.length;
    waiting.truncate(0);
  }
}
