/**
 * Owns comparing two images: the one comparison behind `diff`, `create --from`, `invert`, and conversions between unrelated
 * stacks.
 */
import { type ByteSource, readZeroFilled } from "../bytes/byte-source.ts";
import { type Extent, union, widen } from "../bytes/extent.ts";
import type { Pause } from "../context.ts";
import type { Held } from "./write-image.ts";

const PIECE_BYTES = 1 << 20;
const WORD_BYTES = 4;

/** A run of whole units that are the same on both sides, or all differ. The bytes are valid until the next one. */
export interface Compared extends Extent {
  readonly differs: boolean;
  readonly a: Uint8Array;
  readonly b: Uint8Array;
}

/** A buffer for one side, as large as was needed so far. It knows when it holds zeros, so that one hole after the other costs nothing. */
class SideBuffer {
  bytes: Buffer = Buffer.alloc(0);
  words = new Uint32Array();
  #isZero = true;

  #grow(size: number): void {
    const memory = new ArrayBuffer(2 ** Math.ceil(Math.log2(Math.max(size, WORD_BYTES))));
    this.bytes = Buffer.from(memory);
    this.words = new Uint32Array(memory);
    this.#isZero = true;
  }

  /** Reads `size` bytes, unless all of them are a hole: reading that would only copy zeros. */
  read(source: ByteSource, offset: number, size: number): void {
    if (size > this.bytes.length) this.#grow(size);
    for (const { length } of source.dataExtents(offset, offset + size)) {
      if (length === 0) continue;
      readZeroFilled(source, this.bytes.subarray(0, size), offset);
      this.#isZero = false;
      return;
    }
    if (!this.#isZero) this.bytes.fill(0);
    this.#isZero = true;
  }
}

/**
 * Compares ascending extents, which are whole units but for the end of the image. What is missing at the end of a side
 * counts as zeros. Also gives extents of no length, so that a caller can pause while nothing is found.
 */
export function* compare(
  a: ByteSource,
  b: ByteSource,
  extents: Iterable<Extent>,
  unitBytes: number,
): Generator<Compared> {
  const pieceBytes = Math.max(unitBytes, Math.floor(PIECE_BYTES / unitBytes) * unitBytes);
  const [ours, theirs] = [new SideBuffer(), new SideBuffer()];
  const nothing = new Uint8Array(0);
  const part = (from: number, start: number, end: number, differs: boolean): Compared => ({
    offset: from + start,
    length: end - start,
    differs,
    a: ours.bytes.subarray(start, end),
    b: theirs.bytes.subarray(start, end),
  });
  /** Most different units differ in their first word, which avoids the call into native code. */
  const isSame = (from: number, to: number): boolean =>
    (from % WORD_BYTES !== 0 ||
      to - from < WORD_BYTES ||
      ours.words[from / WORD_BYTES] === theirs.words[from / WORD_BYTES]) &&
    ours.bytes.compare(theirs.bytes, from, to, from, to) === 0;
  for (const { offset, length } of extents) {
    if (length === 0) yield { offset, length, differs: false, a: nothing, b: nothing };
    for (let at = offset; at < offset + length; ) {
      const size = Math.min(offset + length, (Math.floor(at / pieceBytes) + 1) * pieceBytes) - at;
      ours.read(a, at, size);
      theirs.read(b, at, size);
      if (isSame(0, size)) yield part(at, 0, size, false);
      else {
        for (let start = 0; start < size; ) {
          let end = Math.min(size, start + unitBytes);
          const same = isSame(start, end);
          while (end < size && isSame(end, Math.min(size, end + unitBytes)) === same)
            end = Math.min(size, end + unitBytes);
          yield part(at, start, end, !same);
          start = end;
        }
      }
      at += size;
      yield { offset: at, length: 0, differs: false, a: nothing, b: nothing };
    }
  }
}

/** The units of `[from, to)` in which `image` differs from `base`, with the image's content; and pauses. */
export function* differences(
  image: ByteSource,
  base: ByteSource,
  unitBytes: number,
  from: number,
  to: number,
): Generator<Held> {
  const all = union(
    widen(image.dataExtents(from, to), unitBytes, to),
    widen(base.dataExtents(from, Math.min(to, base.sizeBytes)), unitBytes, to),
  );
  for (const { offset, length, differs, a } of compare(image, base, all, unitBytes))
    if (differs || length === 0) yield { offset, length, bytes: length === 0 ? undefined : a };
}

/** Do both read the same from `from` to `to`? */
export async function isSame(
  a: ByteSource,
  b: ByteSource,
  [from, to]: readonly [from: number, to: number],
  pause: Pause,
): Promise<boolean> {
  for (const { length } of differences(a, b, PIECE_BYTES, from, to)) {
    if (length > 0) return false;
    await pause();
  }
  return true;
}
