/**
 * Owns zero bytes: the test for them, fast on long zero runs and on data that is not zero at its first word; and writing them.
 */
import type { ByteTarget } from "./byte-source.ts";

const ZEROS = Buffer.alloc(1 << 20);

/** Are all bytes of `[start, end)` zero? */
export function isZero(bytes: Uint8Array, start = 0, end = bytes.length): boolean {
  // Most data is not zero in its first bytes, which spares the call into native code.
  const probe = Math.min(end, start + 8);
  for (let i = start; i < probe; i++) if (bytes[i] !== 0) return false;
  for (let at = probe; at < end; at += ZEROS.length) {
    const stop = Math.min(end, at + ZEROS.length);
    if (ZEROS.compare(bytes, at, stop, 0, stop - at) !== 0) return false;
  }
  return true;
}

/** Writes zeros to `[from, to)`. */
export function writeZeros(target: Pick<ByteTarget, "write">, from: number, to: number): void {
  for (let at = from; at < to; at += ZEROS.length) target.write(ZEROS.subarray(0, Math.min(ZEROS.length, to - at)), at);
}
