/**
 * Owns the question how much room there is beside a file.
 */
import * as fs from "node:fs";

/** Bytes that may be written to a file's file system, or undefined where nobody knows. */
export function freeBytes(file: string): number | undefined {
  try {
    const { bavail, bsize } = fs.statfsSync(file);
    return bavail * bsize;
  } catch {
    return undefined;
  }
}
