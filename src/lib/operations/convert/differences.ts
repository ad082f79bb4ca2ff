/**
 * Owns finding what differs between two images, in whole units, where no layers tell it.
 */
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import { type Extent, union, widen } from "../../bytes/extent.ts";

const PIECE_BYTES = 1 << 20;

/**
 * The units of `[from, sizeBytes)` in which `image` differs from `base`, whose missing end counts as zeros. Also gives
 * extents of no length, so that a caller can draw breath while nothing differs.
 */
export function* differences(
  image: ByteSource,
  base: ByteSource,
  unitBytes: number,
  from: number,
  sizeBytes: number,
): Generator<Extent> {
  const pieceBytes = Math.max(unitBytes, Math.floor(PIECE_BYTES / unitBytes) * unitBytes);
  const [ours, theirs] = [new Uint8Array(pieceBytes), new Uint8Array(pieceBytes)];
  const baseData = base.dataExtents(from, Math.min(sizeBytes, base.sizeBytes));
  const all = union(
    widen(image.dataExtents(from, sizeBytes), unitBytes, sizeBytes),
    widen(baseData, unitBytes, sizeBytes),
  );
  for (const { offset, length } of all) {
    if (length === 0) yield { offset, length };
    for (let at = offset; at < offset + length; at += pieceBytes) {
      const size = Math.min(pieceBytes, offset + length - at);
      const [a, b] = [ours.subarray(0, size), theirs.subarray(0, size)];
      readZeroFilled(image, a, at);
      readZeroFilled(base, b, at);
      for (const run of differingRuns(a, b, unitBytes)) yield { offset: at + run.offset, length: run.length };
      yield { offset: at + size, length: 0 };
    }
  }
}

function* differingRuns(a: Uint8Array, b: Uint8Array, unit: number): Generator<Extent> {
  if (Buffer.compare(a, b) === 0) return;
  const differ = (at: number): boolean => Buffer.compare(a.subarray(at, at + unit), b.subarray(at, at + unit)) !== 0;
  for (let at = 0; at < a.length; ) {
    if (!differ(at)) {
      at += unit;
      continue;
    }
    let end = at + unit;
    while (end < a.length && differ(end)) end += unit;
    yield { offset: at, length: Math.min(end, a.length) - at };
    at = end;
  }
}
