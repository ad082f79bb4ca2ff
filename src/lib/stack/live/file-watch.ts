/**
 * Owns how often a thread checks whether the files of its image were cut short by another program. Reads notice that by
 * themselves, except in the rest of the last page, where mapped memory has zeros, and in files that grew back.
 */
import type { BlockDevice, LocalFile } from "../../device/block-device.ts";
import { CowError } from "../../errors.ts";

/** A check costs a system call for each file: a few microseconds of each millisecond. */
const LOOK_NS = 1e6;

export class FileWatch {
  readonly #files: readonly LocalFile[];
  #lastNs = Number.NEGATIVE_INFINITY;

  constructor(files: readonly BlockDevice[]) {
    this.#files = files.flatMap(({ file }) => (file && !file.isBlockDevice ? [file] : []));
  }

  /** @param nowNs the time, on any clock */
  look(nowNs: number): void {
    if (nowNs - this.#lastNs < LOOK_NS) return;
    this.#lastNs = nowNs;
    for (const file of this.#files) isWhole(file);
  }
}

/** If that can't be told, the reader of the file gets the reason. */
export function isWhole(file: LocalFile): boolean {
  try {
    return file.isWhole();
  } catch (error) {
    if (error instanceof CowError) return true;
    throw error;
  }
}
