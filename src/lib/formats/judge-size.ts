/**
 * Owns judging a base by its size, for formats that store nothing else about it.
 */
import type { ByteSource } from "../bytes/byte-source.ts";
import type { Problem } from "./format.ts";

/** @param blocks how many the layer was made for, of `blockBytes` each */
export function judgeSize(blocks: number, blockBytes: number, base: ByteSource): readonly Problem[] {
  const actual = Math.floor(base.sizeBytes / blockBytes);
  if (actual === blocks) return [];
  const message = `it was made for a base of ${blocks} blocks of ${blockBytes} bytes, but ${base.name} has ${actual}`;
  return [{ id: "base-size", severity: "error", fixable: false, offset: 0, length: 0, message }];
}
