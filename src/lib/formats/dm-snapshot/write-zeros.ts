/**
 * Owns making a part of a target zero without filling its holes.
 */
import type { ByteTarget } from "../../bytes/byte-source.ts";
import { writeZeros as fill } from "../../bytes/zero.ts";

/** Makes `[from, to)` read as zeros; parts that are holes already stay so. Durable only after a flush. */
export function writeZeros(target: ByteTarget, from: number, to: number): void {
  const end = Math.min(to, target.sizeBytes);
  for (const { offset, length } of [...target.dataExtents(from, end)]) fill(target, offset, offset + length);
}
