/**
 * Owns the question whether this thread had to wait for a disk on mapped memory since it was last asked.
 */
import { libc } from "./libc.ts";

const RUSAGE_THREAD = 1;
const USAGE_BYTES = 144;
/** The place of ru_majflt, in 64-bit numbers: after two times and seven numbers. */
const MAJOR_FAULTS_AT = 72;

export class MajorFaults {
  readonly #usage = new Uint8Array(USAGE_BYTES);
  readonly #view = new DataView(this.#usage.buffer);
  #last = this.#now();

  #now(): bigint {
    return libc()?.getrusage(RUSAGE_THREAD, this.#usage) === 0 ? this.#view.getBigUint64(MAJOR_FAULTS_AT, true) : 0n;
  }

  haveGrown(): boolean {
    const now = this.#now();
    const before = this.#last;
    this.#last = now;
    return now > before;
  }
}
