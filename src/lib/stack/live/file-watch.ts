/**
 * Owns how often a thread checks whether the files of its image were cut short by another program. Reads notice that by
 * themselves, except in the rest of the last page, where mapped memory has zeros, and in files that grew back.
 */
import type { BlockDevice, LocalFile } from "../../device/block-device.ts";
import { CowError } from "../../errors.ts";

/** A check costs a system call for each file: a few microseconds of each millisecond. */
const LOOK_NS = 1e6;
/** So a deep stack has its files looked at by turns, but the last one each time: it is the one that is written. */
const FILES_AT_ONCE = 8;

export class FileWatch {
  readonly #files: readonly LocalFile[];
  #lastNs = Number.NEGATIVE_INFINITY;
  #turn = 0;

  /** @param files the written one last */
  constructor(files: readonly BlockDevice[]) {
    this.#files = files.flatMap(({ file }) => (file && !file.isBlockDevice ? [file] : []));
  }

  /** @param nowNs the time, on any clock */
  look(nowNs: number): void {
    if (nowNs - this.#lastNs < LOOK_NS) return;
    this.#lastNs = nowNs;
    const last = this.#files.length - 1;
    for (let count = Math.min(last, FILES_AT_ONCE - 1); count > 0; count--) {
      this.#look(this.#turn);
      this.#turn = (this.#turn + 1) % last;
    }
    this.#look(last);
  }

  #look(index: number): void {
    const file = this.#files[index];
    if (file) isWhole(file);
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
