/**
 * Owns comparing two sources over given extents, a block at a time where they differ.
 */
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import type { Extent } from "../../bytes/extent.ts";
import { ExtentList } from "../../bytes/extent.ts";
import { makeBreath } from "../../context.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import type { DifferenceSample } from "./request.ts";

const PIECE_BYTES = 1 << 20;
const SAMPLE_BYTES = 16;
const WORD_BYTES = 4;

/** Reads, but for what is a hole from beginning to end: reading that would only copy zeros. */
function readUnlessHole(source: ByteSource, target: Uint8Array, offset: number): void {
  for (const _ of source.dataExtents(offset, offset + target.length)) {
    readZeroFilled(source, target, offset);
    return;
  }
  target.fill(0);
}

export interface ComparisonHooks {
  /** Throws when the caller wants to stop. */
  readonly checkpoint: (doneBytes: number) => void;
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
  readonly #ours = Buffer.from(new ArrayBuffer(PIECE_BYTES));
  readonly #theirs = Buffer.from(new ArrayBuffer(PIECE_BYTES));
  readonly #ourWords = new Uint32Array(this.#ours.buffer, 0, PIECE_BYTES / WORD_BYTES);
  readonly #theirWords = new Uint32Array(this.#theirs.buffer, 0, PIECE_BYTES / WORD_BYTES);
  readonly #breath = makeBreath();
  #doneBytes = 0;

  constructor(a: ByteSource, b: ByteSource, hooks: ComparisonHooks) {
    this.#a = a;
    this.#b = b;
    this.#hooks = hooks;
  }

  /** Compares ascending extents of the image; `locate` says where one begins in each source (default: right there). */
  async run(extents: Iterable<Extent>, locate?: (offset: number) => readonly [a: number, b: number]): Promise<void> {
    for (const { offset, length } of extents) {
      for (let at = offset; at < offset + length; at += PIECE_BYTES) {
        const size = Math.min(PIECE_BYTES, offset + length - at);
        const [atA, atB] = locate?.(at) ?? [at, at];
        readUnlessHole(this.#a, this.#ours.subarray(0, size), atA);
        readUnlessHole(this.#b, this.#theirs.subarray(0, size), atB);
        this.#comparePiece(at, size);
        this.#doneBytes += size;
        this.#hooks.checkpoint(this.#doneBytes);
        await this.#breath();
      }
    }
  }

  #comparePiece(offset: number, size: number): void {
    if (Buffer.compare(this.#ours.subarray(0, size), this.#theirs.subarray(0, size)) === 0) {
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
      this.#ourWords[word] === this.#theirWords[word] && this.#ours.compare(this.#theirs, from, to, from, to) === 0
    );
  }

  /** Keeps the aligned rows of 16 bytes in which a block differs. */
  #takeSamples(offset: number, from: number, to: number): void {
    for (let at = from; at < to && this.samples.length < this.#hooks.samples; at += SAMPLE_BYTES) {
      const a = this.#ours.slice(at, Math.min(to, at + SAMPLE_BYTES));
      const b = this.#theirs.slice(at, Math.min(to, at + SAMPLE_BYTES));
      if (Buffer.compare(a, b) !== 0) this.samples.push({ offset: offset + at, a, b });
    }
  }
}
