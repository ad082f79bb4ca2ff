/**
 * Owns comparing two sources over given extents, a block at a time where they differ.
 */
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import type { Extent } from "../../bytes/extent.ts";
import { ExtentList } from "../../bytes/extent.ts";
import type { Pause } from "../../context.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import type { DifferenceSample } from "./request.ts";

const PIECE_BYTES = 1 << 20;
const SAMPLE_BYTES = 16;
const WORD_BYTES = 4;

/** A buffer for one side. It knows when it holds zeros, so that one hole after the other costs nothing. */
class SideBuffer {
  readonly bytes = Buffer.from(new ArrayBuffer(PIECE_BYTES));
  readonly words = new Uint32Array(this.bytes.buffer, 0, PIECE_BYTES / WORD_BYTES);
  #isZero = true;

  /** Reads `size` bytes, but for what is a hole from beginning to end: reading that would only copy zeros. */
  read(source: ByteSource, offset: number, size: number): void {
    for (const _ of source.dataExtents(offset, offset + size)) {
      readZeroFilled(source, this.bytes.subarray(0, size), offset);
      this.#isZero = false;
      return;
    }
    if (!this.#isZero) this.bytes.fill(0);
    this.#isZero = true;
  }
}

export interface ComparisonHooks {
  /** Told how far it is. */
  readonly checkpoint: (doneBytes: number) => void;
  /** Throws when the caller wants to stop. */
  readonly pause: Pause;
  /** How many differing places to keep. */
  readonly samples: number;
}

export class Comparison {
  readonly different = new ExtentList();
  readonly same = new ExtentList();
  readonly samples: DifferenceSample[] = [];
  readonly #a: ByteSource;
  readonly #b: ByteSource;
  readonly #hooks: ComparisonHooks;
  readonly #ours = new SideBuffer();
  readonly #theirs = new SideBuffer();
  #doneBytes = 0;

  constructor(a: ByteSource, b: ByteSource, hooks: ComparisonHooks) {
    this.#a = a;
    this.#b = b;
    this.#hooks = hooks;
  }

  /** Compares ascending extents of the image. */
  async run(extents: Iterable<Extent>): Promise<void> {
    for (const { offset, length } of extents) {
      if (length === 0) await this.#hooks.pause();
      for (let at = offset; at < offset + length; at += PIECE_BYTES) {
        const size = Math.min(PIECE_BYTES, offset + length - at);
        this.#ours.read(this.#a, at, size);
        this.#theirs.read(this.#b, at, size);
        this.#comparePiece(at, size);
        this.#doneBytes += size;
        this.#hooks.checkpoint(this.#doneBytes);
        await this.#hooks.pause();
      }
    }
  }

  #comparePiece(offset: number, size: number): void {
    if (Buffer.compare(this.#ours.bytes.subarray(0, size), this.#theirs.bytes.subarray(0, size)) === 0) {
      this.same.append(offset, size);
      return;
    }
    for (let at = 0; at < size; at += BLOCK_BYTES) {
      const end = Math.min(size, at + BLOCK_BYTES);
      const equal = this.#blockIsEqual(at, end);
      (equal ? this.same : this.different).append(offset + at, end - at);
      if (!equal && this.samples.length < this.#hooks.samples) this.#takeSamples(offset, at, end);
    }
  }

  /** Most blocks that differ do so in their first word, which spares the call into native code. */
  #blockIsEqual(from: number, to: number): boolean {
    const word = from / WORD_BYTES;
    return (
      this.#ours.words[word] === this.#theirs.words[word] &&
      this.#ours.bytes.compare(this.#theirs.bytes, from, to, from, to) === 0
    );
  }

  /** Keeps the aligned rows of 16 bytes in which a block differs. */
  #takeSamples(offset: number, from: number, to: number): void {
    for (let at = from; at < to && this.samples.length < this.#hooks.samples; at += SAMPLE_BYTES) {
      const a = new Uint8Array(this.#ours.bytes.subarray(at, Math.min(to, at + SAMPLE_BYTES)));
      const b = new Uint8Array(this.#theirs.bytes.subarray(at, Math.min(to, at + SAMPLE_BYTES)));
      if (Buffer.compare(a, b) !== 0) this.samples.push({ offset: offset + at, a, b });
    }
  }
}
