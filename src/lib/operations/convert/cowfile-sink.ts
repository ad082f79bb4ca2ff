/**
 * Owns cowfiles as the output of a conversion: as `create` makes them, of any ABI.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import { WindowedBitmapWriter } from "../../formats/cowfile/bitmap-writer.ts";
import { newHeadBlock, storedFingerprint } from "../../formats/cowfile/head.ts";
import {
  BLOCK_BYTES,
  COW_VERSION,
  type CowAbi,
  dataOffsetFor,
  freshFileSize,
  mapSizeFor,
} from "../../formats/cowfile/layout.ts";
import type { Destination, Sink, SinkState } from "./sink.ts";

export interface NewCowfile {
  readonly abi: CowAbi;
  readonly rdoBlocks: number;
  readonly fingerprint: number;
}

export class CowfileSink implements Sink {
  readonly unitBytes = BLOCK_BYTES;
  readonly #target: BlockDevice;
  readonly #file: NewCowfile;
  readonly #bitmap: WindowedBitmapWriter;
  readonly #dataOffset: number;
  /** Where the last block that it holds ends, in the image. */
  #end = 0;

  constructor(target: BlockDevice, file: NewCowfile) {
    const mapSize = mapSizeFor(file.rdoBlocks);
    this.#target = target;
    this.#file = file;
    this.#bitmap = new WindowedBitmapWriter(target, mapSize);
    this.#dataOffset = dataOffsetFor(mapSize);
    if (target.sizeBytes < freshFileSize(file.rdoBlocks)) target.resize(freshFileSize(file.rdoBlocks));
  }

  data(offset: number, length: number): readonly Destination[] {
    this.zeros(offset, length);
    return [{ offset, length, at: this.#dataOffset + offset }];
  }

  /** A block that is a hole in the data area is as zero as one that is not. */
  zeros(offset: number, length: number): void {
    this.#bitmap.mark(offset / BLOCK_BYTES, (offset + length) / BLOCK_BYTES);
    this.#end = offset + length;
  }

  checkpoint(): SinkState {
    this.#bitmap.checkpoint();
    return { marked: this.#bitmap.marked, end: this.#end };
  }

  resume(offset: number, state: SinkState): void {
    const size = Math.max(freshFileSize(this.#file.rdoBlocks), this.#dataOffset + offset);
    // What was written behind that, and is not known to be whole, goes.
    if (this.#target.sizeBytes > size) this.#target.resize(size);
    this.#bitmap.resume(offset / BLOCK_BYTES, state["marked"] ?? 0);
    this.#end = state["end"] ?? 0;
  }

  finish(): void {
    const { abi, rdoBlocks, fingerprint } = this.#file;
    this.#bitmap.finish();
    const end = this.#dataOffset + this.#end;
    if (this.#end > 0 && this.#target.sizeBytes < end) this.#target.resize(end);
    const head = newHeadBlock({
      abi,
      version: COW_VERSION,
      flags: 0,
      mapUnit: BigInt(BLOCK_BYTES),
      mapSize: BigInt(mapSizeFor(rdoBlocks)),
      dataOffset: BigInt(this.#dataOffset),
      rdoBlocks: BigInt(rdoBlocks),
      fingerprint: storedFingerprint(abi, fingerprint),
      used: BigInt(this.#bitmap.marked),
    });
    this.#target.write(head, 0);
  }
}
