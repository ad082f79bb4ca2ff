/**
 * Owns the making of a cowfile's content in one pass: blocks in ascending order, then the head. Where it appears, and
 * whether, is the caller's business.
 */
import type { ByteTarget } from "../../bytes/byte-source.ts";
import { WindowedBitmapWriter } from "./bitmap-writer.ts";
import { newHeadBlock, storedFingerprint } from "./head.ts";
import { BLOCK_BYTES, COW_VERSION, type CowAbi, dataOffsetFor, freshFileSize, mapSizeFor } from "./layout.ts";

export class NewCowfile {
  readonly mapSizeBytes: number;
  readonly dataOffsetBytes: number;
  readonly #target: ByteTarget;
  readonly #abi: CowAbi;
  readonly #rdoBlocks: number;
  readonly #bitmap: WindowedBitmapWriter;
  #endBlock = 0;

  /** @param target an empty file */
  constructor(target: ByteTarget, { abi, rdoBlocks }: { readonly abi: CowAbi; readonly rdoBlocks: number }) {
    this.#target = target;
    this.#abi = abi;
    this.#rdoBlocks = rdoBlocks;
    this.mapSizeBytes = mapSizeFor(rdoBlocks);
    this.dataOffsetBytes = dataOffsetFor(this.mapSizeBytes);
    this.#bitmap = new WindowedBitmapWriter(target, this.mapSizeBytes);
    target.resize(freshFileSize(rdoBlocks));
  }

  get blocksUsed(): number {
    return this.#bitmap.marked;
  }

  /** Whole blocks, behind all that were put before. */
  put(bytes: Uint8Array, offsetBytes: number): void {
    this.#target.write(bytes, this.dataOffsetBytes + offsetBytes);
    this.putZeros(offsetBytes, bytes.length);
  }

  /** The same for zeros, which stay a hole. */
  putZeros(offsetBytes: number, lengthBytes: number): void {
    this.#endBlock = (offsetBytes + lengthBytes) / BLOCK_BYTES;
    this.#bitmap.mark(offsetBytes / BLOCK_BYTES, this.#endBlock);
  }

  /** Writes what is left of the bitmap, and the head. Flushing is the caller's business. */
  finish(fingerprint: number): void {
    this.#bitmap.finish();
    // A block whose data lies beyond the end of the file would count as lost.
    const end = this.dataOffsetBytes + this.#endBlock * BLOCK_BYTES;
    if (this.#endBlock > 0 && this.#target.sizeBytes < end) this.#target.resize(end);
    const head = newHeadBlock({
      abi: this.#abi,
      version: COW_VERSION,
      flags: 0,
      mapUnit: BigInt(BLOCK_BYTES),
      mapSize: BigInt(this.mapSizeBytes),
      dataOffset: BigInt(this.dataOffsetBytes),
      rdoBlocks: BigInt(this.#rdoBlocks),
      fingerprint: storedFingerprint(this.#abi, fingerprint),
      used: BigInt(this.blocksUsed),
    });
    this.#target.write(head, 0);
  }
}
