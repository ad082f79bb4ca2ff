/**
 * Owns the fingerprint of a base: the sums, mod 256, of the first four blocks whose sum is not zero. It proves little:
 * images that differ elsewhere, or by swapped bytes, have the same one. Source: the driver's cowlo_openrdo.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { type Extent, union, widen, within } from "../../bytes/extent.ts";
import { isZero } from "../../bytes/zero.ts";
import { interrupted, makePause } from "../../context.ts";
import { BLOCK_BYTES } from "./layout.ts";

const READ_BYTES = 256 * 1024;
/** A whole number of blocks. */
const FIRST_RANGE_BYTES = READ_BYTES;
const MAX_CONTRIBUTIONS = 4;

/** One block of a fingerprint. */
export interface Contribution {
  readonly block: number;
  /** 1..255 */
  readonly sum: number;
}

/** The fingerprint of a base, and the blocks that it is made of. */
export interface Fingerprint {
  /** Unsigned 32-bit value. */
  readonly value: number;
  /** Ascending, at most four. */
  readonly contributions: readonly Contribution[];
}

/**
 * The sum of one block's bytes mod 256. Adds four lanes of bytes at a time; at most 1024 bytes, so no lane overflows 32 bits.
 *
 * @internal
 */
export function blockSum(bytes: Uint8Array, start: number): number {
  let sum = 0;
  for (let i = start; i < start + BLOCK_BYTES; i += 4)
    sum += (bytes[i] ?? 0) + (bytes[i + 1] ?? 0) + (bytes[i + 2] ?? 0) + (bytes[i + 3] ?? 0);
  return sum & 0xff;
}

/** @internal */
export function fingerprintOf(contributions: readonly Contribution[]): number {
  return contributions.reduce((value, { sum }, n) => value | (sum << (8 * n)), 0) >>> 0;
}

/** Blocks that were overwritten, with their former sums: their content in the base is not used. */
export interface FingerprintOverride {
  isOverridden(block: number): boolean;
  /** The overridden blocks whose former sum was not zero. */
  readonly contributions: readonly Contribution[];
}

/** How a fingerprint is taken. */
export interface FingerprintOptions {
  readonly signal?: AbortSignal | undefined;
  readonly override?: FingerprintOverride | undefined;
}

/**
 * Takes the fingerprint of the first `blocks` blocks of a base. Holes are skipped, as their sums are zero.
 *
 * @throws CowError `io`; `interrupted` when the signal fires
 */
export async function takeFingerprint(
  base: ByteSource,
  blocks: number,
  options: FingerprintOptions = {},
): Promise<Fingerprint> {
  const end = Math.min(blocks, Math.floor(base.sizeBytes / BLOCK_BYTES)) * BLOCK_BYTES;
  const known = new Map(options.override?.contributions.map(({ block, sum }) => [block, sum]));
  const contributions: Contribution[] = [];
  const buffer = new Uint8Array(READ_BYTES);
  const stopped = () => interrupted(base.name, "while taking the fingerprint; nothing was changed");
  const pause = makePause(options.signal, stopped);
  for (const { offset, length } of extentsToSum(base, end, known.keys())) {
    if (length === 0) await pause();
    for (let at = offset; at < offset + length; at += READ_BYTES) {
      const piece = buffer.subarray(0, Math.min(READ_BYTES, offset + length - at));
      piece.fill(0, base.read(piece, at));
      for (const contribution of contributionsOf(piece, at / BLOCK_BYTES, known, options.override)) {
        contributions.push(contribution);
        if (contributions.length === MAX_CONTRIBUTIONS) return { value: fingerprintOf(contributions), contributions };
      }
      await pause();
    }
  }
  return { value: fingerprintOf(contributions), contributions };
}

/** The contributions of one piece. `known` are the former sums of overridden blocks that were not zero. */
function* contributionsOf(
  piece: Uint8Array,
  firstBlock: number,
  known: ReadonlyMap<number, number>,
  override: FingerprintOverride | undefined,
): Generator<Contribution> {
  if (known.size === 0 && isZero(piece)) return;
  for (let i = 0; i < piece.length; i += BLOCK_BYTES) {
    const block = firstBlock + i / BLOCK_BYTES;
    const former = known.get(block);
    const sum = former ?? blockSum(piece, i);
    // An overwritten block without a known sum contributed nothing.
    if (sum !== 0 && (former !== undefined || !override?.isOverridden(block))) yield { block, sum };
  }
}

/**
 * The base's data in whole blocks (an extent may begin inside a block), and the blocks that are overridden. Asked for by ranges
 * that double: the first blocks are enough, mostly, but layers that are written throughout have one extent, which is put
 * together of all their runs before it is known.
 */
function* extentsToSum(base: ByteSource, end: number, blocks: Iterable<number>): Generator<Extent> {
  const known = [...blocks]
    .sort((a, b) => a - b)
    .map((block) => ({ offset: block * BLOCK_BYTES, length: BLOCK_BYTES }));
  let length = FIRST_RANGE_BYTES;
  for (let from = 0; from < end; ) {
    const to = Math.min(end, from + length);
    yield* union(widen(within(base.dataExtents(from, to), from, to), BLOCK_BYTES, to), within(known, from, to));
    from = to;
    length *= 2;
  }
  yield* within(known, end, Number.POSITIVE_INFINITY);
}
