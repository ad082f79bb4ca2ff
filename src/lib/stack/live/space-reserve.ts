/**
 * Owns the space that a writable image leaves free on its file system, for one thread: blocks that need new space are
 * refused before the disk is full, so that everything else on it goes on working.
 */
import { freeBytes } from "../../device/free-space.ts";
import { CowError } from "../../errors.ts";

const LOOK_AT_LEAST_BYTES = 1 << 20;
const LOOK_AT_MOST_BYTES = 64 << 20;

export class SpaceReserve {
  readonly #file: string;
  readonly #reserveBytes: number;
  readonly #ask: typeof freeBytes;
  /** Bytes that may be taken before the next look. */
  #unlookedBytes = 0;

  /** @param reserveBytes 0 for none: then nothing is ever looked at */
  constructor(file: string, reserveBytes: number, ask = freeBytes) {
    this.#file = file;
    this.#reserveBytes = reserveBytes;
    this.#ask = ask;
  }

  /** To be called before `bytes` of new space are taken. @throws CowError `no-space` if that would touch the reserve */
  take(bytes: number): void {
    if (this.#reserveBytes === 0) return;
    this.#unlookedBytes -= bytes;
    if (this.#unlookedBytes >= 0) return;
    const free = this.#ask(this.#file);
    if (free === undefined) return;
    const left = free - this.#reserveBytes - bytes;
    if (left < 0) {
      this.#unlookedBytes = 0;
      throw new CowError(
        "no-space",
        `${free} bytes are free on its file system, of which ${this.#reserveBytes} are to be left`,
        { file: this.#file },
      );
    }
    // Other threads and programs take space, too: the less there is, the sooner is the next look.
    this.#unlookedBytes = Math.min(LOOK_AT_MOST_BYTES, Math.max(LOOK_AT_LEAST_BYTES, left / 8));
  }
}
