/**
 * Owns the space that a writable image leaves free on its file system, for one thread: writes that need new space fail
 * before the disk is full, so that other programs can continue.
 */
import { freeBytes } from "../../device/free-space.ts";
import { CowError } from "../../errors.ts";

const LOOK_AT_LEAST_BYTES = 1 << 20;
const LOOK_AT_MOST_BYTES = 64 << 20;

export class SpaceReserve {
  readonly #file: string;
  readonly #reserveBytes: number;
  readonly #ask: typeof freeBytes;
  /** Bytes that may be used before the next check. */
  #unlookedBytes = 0;

  /** @param reserveBytes 0 for none: then there are no checks */
  constructor(file: string, reserveBytes: number, ask = freeBytes) {
    this.#file = file;
    this.#reserveBytes = reserveBytes;
    this.#ask = ask;
  }

  /** Must be called before `bytes` of new space are used. @throws CowError `no-space` if the reserve would be touched */
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
    // Other threads and programs use space, too: the less there is, the sooner is the next check.
    this.#unlookedBytes = Math.min(LOOK_AT_MOST_BYTES, Math.max(LOOK_AT_LEAST_BYTES, left / 8));
  }
}
