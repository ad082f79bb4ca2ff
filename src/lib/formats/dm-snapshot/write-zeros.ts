/**
 * Owns making a part of a target zero without filling its holes.
 */
import type { ByteTarget } from "../../bytes/byte-source.ts";

const ZEROS = new Uint8Array(1 << 20);

/** Makes `[from, to)` read as zeros; parts that are holes already stay so. Durable only after a flush. */
export function writeZeros(target: ByteTarget, from: number, to: number): void {
  const end = Math.min(to, target.sizeBytes);
  for (const { offset, length } of [...target.dataExtents(from, end)]) {
    for (let at = offset; at < offset + length; at += ZEROS.length) {
      target.write(ZEROS.subarray(0, Math.min(ZEROS.length, offset + length - at)), at);
    }
  }
}
