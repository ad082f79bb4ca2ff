/**
 * Owns turning a payload back into a cowfile: fed with pieces of any size, in order, it writes head, bitmap and blocks
 * to their places. The head's size is the limit: a longer stream is refused, however small it is packed.
 */
import { countBits } from "../../../bytes/bitmap.ts";
import type { ByteTarget } from "../../../bytes/byte-source.ts";
import type { Extent } from "../../../bytes/extent.ts";
import { isZero } from "../../../bytes/zero.ts";
import { CowError } from "../../../errors.ts";
import { BitmapReader } from "../bitmap-windows.ts";
import { type CowGeometry, judgeHead, requireGeometry } from "../geometry.ts";
import { type CowHead, decodeHead, isPacked } from "../head.ts";
import { BITMAP_OFFSET_BYTES, FLAG_PACKED, headLayout } from "../layout.ts";
import { structBytes } from "./payload.ts";

const LARGEST_HEAD_BYTES = headLayout("le64").sizeBytes;
const CHUNK_BYTES = 4096;

/**
 * Decodes and checks the head of a pack.
 *
 * @param fileBytes the length of a plain pack; for a stream, reading shows whether it is long enough
 * @throws CowError `bad-head` (also: not packed), `damaged`, `unsupported`
 */
export function decodePackedHead(
  bytes: Uint8Array,
  file: string,
  fileBytes = Number.MAX_SAFE_INTEGER,
): { readonly head: CowHead; readonly geometry: CowGeometry } {
  const head = decodeHead(bytes, file);
  if (!isPacked(head)) throw new CowError("bad-head", "holds a cowfile that is not marked as packed", { file });
  const judgement = judgeHead(head, fileBytes, file);
  const geometry = requireGeometry(judgement, file);
  const wrongSize = judgement.problems.find(({ id }) => id === "map-size");
  if (wrongSize)
    throw new CowError("damaged", wrongSize.message, {
      file,
      details: { problem: wrongSize.id, offset: wrongSize.offset },
    });
  return { head, geometry };
}

export class PayloadUnpacker {
  readonly #target: ByteTarget;
  readonly #file: string;
  #early: Uint8Array = new Uint8Array(0);
  #opened: { readonly head: CowHead; readonly geometry: CowGeometry } | undefined;
  #bitmapDone = 0;
  #marked = 0;
  #extents: Iterator<Extent> | undefined;
  #run: Extent | undefined;
  /** Payload bytes taken so far. */
  takenBytes = 0;

  /** @param file the pack's name, for messages; `target` must be empty */
  constructor(target: ByteTarget, file: string) {
    this.#target = target;
    this.#file = file;
  }

  /** @throws CowError `bad-head`, `damaged`, and what writing throws */
  take(piece: Uint8Array): void {
    this.takenBytes += piece.length;
    let rest = piece;
    if (!this.#opened) {
      this.#early = Buffer.concat([this.#early, piece]);
      if (this.#early.length < LARGEST_HEAD_BYTES) return;
      rest = this.#open();
    }
    rest = this.#takeBitmap(rest);
    this.#takeBlocks(rest);
  }

  /**
   * Must be called when the stream has ended: writes the head.
   * @returns how many blocks there are, and how many the head says there are
   * @throws CowError `truncated` if something is missing
   */
  finish(): { readonly blocks: number; readonly usedInHead: bigint } {
    if (!this.#opened) throw this.#truncated("inside its head");
    const { head, geometry } = this.#opened;
    if (this.#bitmapDone < geometry.mapSizeBytes) throw this.#truncated("inside its bitmap");
    if (this.#nextRun()) throw this.#truncated("before its last block");
    this.#target.write(structBytes(head, head.flags & ~FLAG_PACKED), 0);
    return { blocks: this.#marked, usedInHead: head.used };
  }

  /** Reads the head from the first bytes; returns the rest. */
  #open(): Uint8Array {
    this.#opened = decodePackedHead(this.#early, this.#file);
    const { head, geometry } = this.#opened;
    this.#target.resize(BITMAP_OFFSET_BYTES + geometry.mapSizeBytes);
    return this.#early.subarray(headLayout(head.abi).sizeBytes);
  }

  #takeBitmap(piece: Uint8Array): Uint8Array {
    const size = this.#opened?.geometry.mapSizeBytes ?? 0;
    const part = piece.subarray(0, size - this.#bitmapDone);
    this.#marked += countBits(part);
    for (let at = 0; at < part.length; at += CHUNK_BYTES) {
      const chunk = part.subarray(at, at + CHUNK_BYTES);
      if (!isZero(chunk)) this.#target.write(chunk, BITMAP_OFFSET_BYTES + this.#bitmapDone + at);
    }
    this.#bitmapDone += part.length;
    return piece.subarray(part.length);
  }

  #takeBlocks(piece: Uint8Array): void {
    for (let at = 0; at < piece.length; ) {
      const run = this.#nextRun();
      if (!run) {
        throw new CowError(
          "damaged",
          `the packed stream continues after its last block, ${this.takenBytes - piece.length + at} bytes into it`,
          {
            file: this.#file,
          },
        );
      }
      const count = Math.min(run.length, piece.length - at);
      this.#target.write(piece.subarray(at, at + count), (this.#opened?.geometry.dataOffsetBytes ?? 0) + run.offset);
      this.#run = count < run.length ? { offset: run.offset + count, length: run.length - count } : undefined;
      at += count;
    }
  }

  /** Where the next bytes go, or undefined when everything is written. */
  #nextRun(): Extent | undefined {
    if (this.#run || !this.#opened || this.#bitmapDone < this.#opened.geometry.mapSizeBytes) return this.#run;
    const { geometry } = this.#opened;
    this.#extents ??= new BitmapReader(this.#target, geometry)
      .markedExtents(0, geometry.mapSizeBytes * 8)
      [Symbol.iterator]();
    const next = this.#extents.next();
    this.#run = next.done ? undefined : next.value;
    return this.#run;
  }

  #truncated(where: string): CowError {
    return new CowError("truncated", `the packed stream ends after ${this.takenBytes} bytes, ${where}`, {
      file: this.#file,
      details: { payload_offset: this.takenBytes },
    });
  }
}
