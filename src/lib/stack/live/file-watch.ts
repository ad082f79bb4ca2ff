/**
 * Owns how often a thread looks whether the files of its image were cut short by another program. Reads notice that by
 * themselves, but for what is left of the last page, where mapped memory has zeros, and for files that grew back.
 */
import type { BlockDevice, LocalFile } from "../../device/block-device.ts";
import { CowError } from "../../errors.ts";

/** A look costs a system call for each file: a few microseconds of each millisecond. */
const LOOK_MS = 1;

export class FileWatch {
  readonly #files: readonly LocalFile[];
  #lastMs = Number.NEGATIVE_INFINITY;

  constructor(files: readonly BlockDevice[]) {
    this.#files = files.flatMap(({ file }) => (file && !file.isBlockDevice ? [file] : []));
  }

  look(): void {
    const now = performance.now();
    if (now - this.#lastMs < LOOK_MS) return;
    this.#lastMs = now;
    for (const file of this.#files) isWhole(file);
  }
}

/** Where that can't be told, whoever reads the file is told why. */
export function isWhole(file: LocalFile): boolean {
  try {
    return file.isWhole();
  } catch (error) {
    if (error instanceof CowError) return true;
    throw error;
  }
}
