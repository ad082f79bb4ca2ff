/**
 * Owns writing new cowfiles, of any ABI: blocks in ascending order, the head last.
 */
import type { ByteSource, ByteTarget } from "../../bytes/byte-source.ts";
import { CowError } from "../../errors.ts";
import type { Destination, ImageWriter, WriterState, WrittenFormat } from "../image-writer.ts";
import { WindowedBitmapWriter } from "./bitmap-writer.ts";
import { takeFingerprint } from "./fingerprint.ts";
import { type CowHead, newHeadBlock, storedFingerprint } from "./head.ts";
import {
  BLOCK_BYTES,
  COW_VERSION,
  type CowAbi,
  dataOffsetFor,
  freshFileSize,
  mapSizeFor,
  maxBlocks,
} from "./layout.ts";
import { writeResized } from "./resized.ts";

export interface NewCowfile {
  readonly abi: CowAbi;
  readonly rdoBlocks: number;
  /** Of the base. */
  readonly fingerprint: number;
  /** Blocks of the base, where the cowfile is of another size. */
  readonly baseBlocks?: number | undefined;
}

export class CowfileWriter implements ImageWriter {
  readonly unitBytes = BLOCK_BYTES;
  readonly mapSizeBytes: number;
  readonly dataOffsetBytes: number;
  readonly #target: ByteTarget;
  readonly #file: NewCowfile;
  readonly #bitmap: WindowedBitmapWriter;
  /** The end of the last allocated block, in the image. */
  #end = 0;

  /** @param target an empty file, or one to resume */
  constructor(target: ByteTarget, file: NewCowfile) {
    this.#target = target;
    this.#file = file;
    this.mapSizeBytes = mapSizeFor(file.rdoBlocks);
    this.dataOffsetBytes = dataOffsetFor(this.mapSizeBytes);
    this.#bitmap = new WindowedBitmapWriter(target, this.mapSizeBytes);
    if (target.sizeBytes < freshFileSize(file.rdoBlocks)) target.resize(freshFileSize(file.rdoBlocks));
  }

  get blocksUsed(): number {
    return this.#bitmap.marked;
  }

  data(offset: number, length: number): readonly Destination[] {
    this.zeros(offset, length);
    return [{ offset, length, at: this.dataOffsetBytes + offset }];
  }

  /** A block that is a hole in the data area reads as zeros. */
  zeros(offset: number, length: number): void {
    this.#bitmap.mark(offset / BLOCK_BYTES, (offset + length) / BLOCK_BYTES);
    this.#end = offset + length;
  }

  checkpoint(): WriterState {
    this.#bitmap.checkpoint();
    return { marked: this.#bitmap.marked, end: this.#end };
  }

  resume(offset: number, state: WriterState): void {
    const size = Math.max(freshFileSize(this.#file.rdoBlocks), this.dataOffsetBytes + offset);
    // Data written beyond that may be incomplete.
    if (this.#target.sizeBytes > size) this.#target.resize(size);
    this.#bitmap.resume(offset / BLOCK_BYTES, state["marked"] ?? 0);
    this.#end = state["end"] ?? 0;
  }

  finish(): void {
    this.#bitmap.finish();
    // A block with its data beyond the end of the file would count as lost.
    const end = this.dataOffsetBytes + this.#end;
    if (this.#end > 0 && this.#target.sizeBytes < end) this.#target.resize(end);
    this.#target.write(newCowfileHead(this.#file, this.#bitmap.marked), 0);
  }
}

/** The head block of a new cowfile that holds `used` blocks. */
export function newCowfileHead({ abi, rdoBlocks, baseBlocks, fingerprint }: NewCowfile, used: number): Uint8Array {
  const mapSizeBytes = mapSizeFor(rdoBlocks);
  const head: CowHead = {
    abi,
    version: COW_VERSION,
    flags: 0,
    mapUnit: BigInt(BLOCK_BYTES),
    mapSize: BigInt(mapSizeBytes),
    dataOffset: BigInt(dataOffsetFor(mapSizeBytes)),
    rdoBlocks: BigInt(rdoBlocks),
    fingerprint: storedFingerprint(abi, fingerprint),
    used: BigInt(used),
  };
  const block = newHeadBlock(head);
  if (baseBlocks !== undefined && baseBlocks !== rdoBlocks) writeResized(head, baseBlocks, block);
  return block;
}

/** @returns the blocks of a base @throws CowError `unsuitable` if it has none, or more than the ABI can describe */
export function blocksOf({ name, sizeBytes }: Pick<ByteSource, "name" | "sizeBytes">, abi: CowAbi): number {
  const blocks = Math.floor(sizeBytes / BLOCK_BYTES);
  if (blocks === 0)
    throw new CowError("unsuitable", `has no contents: ${sizeBytes} bytes are less than one block of ${BLOCK_BYTES}`, {
      file: name,
    });
  if (blocks > maxBlocks(abi))
    throw new CowError(
      "unsuitable",
      `has ${blocks} blocks, more than the ${maxBlocks(abi)} that a cowfile of ABI ${abi} can describe`,
      { file: name, hints: abi.endsWith("32") ? ["--abi le64 or be64 can describe it"] : [] },
    );
  return blocks;
}

export const cowfileWritten: WrittenFormat<"cowfile"> = {
  id: "cowfile",
  base: "required",
  sizeUnitBytes: BLOCK_BYTES,
  options: ["abi"],
  async layout({ base, abi = "le64", signal, sizeBytes, fileName }) {
    const rdoBlocks = blocksOf({ name: base?.name ?? fileName, sizeBytes }, abi);
    const fingerprint = base?.source
      ? (await takeFingerprint(base.source, rdoBlocks, { signal })).value
      : (base?.fingerprint ?? 0);
    // A resized cowfile for another machine.
    const baseBlocks = base?.source ? rdoBlocks : (base?.blocks ?? rdoBlocks);
    return {
      granularityBytes: BLOCK_BYTES,
      makeWriter: (target) => new CowfileWriter(target, { abi, rdoBlocks, baseBlocks, fingerprint }),
      identity: { blocks: baseBlocks, fingerprint },
    };
  },
};
