/**
 * Owns the question how much space is free beside a file.
 */
import * as fs from "node:fs";

/** Bytes that may be written to a file's file system, or undefined if unknown. */
export function freeBytes(file: string): number | undefined {
  try {
    const { bavail, bsize } = fs.statfsSync(file);
    return bavail * bsize;
  } catch {
    return undefined;
  }
}
