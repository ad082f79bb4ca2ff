/**
 * Owns the question whether this thread had to wait for a disk since it was last asked, when it touched what is mapped.
 */
import { libc } from "./libc.ts";

const RUSAGE_THREAD = 1;
const USAGE_BYTES = 144;
/** Where ru_majflt is: behind two times and seven numbers, as 64-bit numbers. */
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
