/**
 * Owns reading ahead for a command over several files. Most of the time of a file that is not cached is the disk's answer to
 * one small request after another; several files at a time, in node's own threads, are answered together. It only fills the
 * cache: nothing is learned, locked or reported.
 */
import { constants } from "node:fs";
import { open, stat } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import { CowError } from "../lib/errors.ts";
import { parsePart } from "../lib/stack/part.ts";

/** Head and bitmap of a cowfile of half a gigabyte. */
const BYTES = 64 << 10;
const FILES_AHEAD = 32;
/** The unit of stat's count of blocks. */
const SECTOR_BYTES = 512;

export class ReadAhead {
  readonly #files: readonly string[];
  readonly #isFile: boolean[] = [];
  #next = 0;

  /** @param files as users write them */
  constructor(files: readonly string[]) {
    this.#files = files.map(pathOf);
  }

  /** The space that each file takes on disk, in bytes, but at least 1; asked of many files at a time. */
  async sizes(): Promise<readonly number[]> {
    return Promise.all(
      this.#files.map(async (file, index) => {
        const found = await stat(file).catch(() => undefined);
        this.#isFile[index] = found?.isFile() ?? false;
        return (found?.blocks ?? 0) * SECTOR_BYTES || 1;
      }),
    );
  }

  /** The file with that index is the next one; sizes() came first. Lets the reads of others go on. */
  async reach(index: number): Promise<void> {
    this.#next = Math.max(this.#next, index + 1);
    for (; this.#next < Math.min(this.#files.length, index + FILES_AHEAD); this.#next++)
      if (this.#isFile[this.#next]) void readBeginning(this.#files[this.#next] ?? "").catch(() => undefined);
    await setImmediate();
  }
}

function pathOf(file: string): string {
  try {
    return parsePart(file).path;
  } catch (error) {
    // The command says why.
    if (error instanceof CowError) return file;
    throw error;
  }
}

async function readBeginning(file: string): Promise<void> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    await handle.read(Buffer.allocUnsafe(BYTES), 0, BYTES, 0);
  } finally {
    await handle.close();
  }
}
