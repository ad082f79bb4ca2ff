/**
 * Owns the number of units (blocks, chunks) that a written layer has allocated, and its quota. Shared memory: every thread
 * counts before it allocates, as one step with the comparison, so that the quota is exact with any number of threads.
 *
 * A quota is compared with allocated units times their size. Head, bitmap, tuples and journal are not counted, and a
 * unit stays counted when a hole is punched into it: it can always be written again.
 */
import { formatSize } from "../../bytes/size.ts";
import { CowError } from "../../errors.ts";

/** Places, 64 bits each. The quota is in units; negative for none. */
const ALLOCATED = 0;
const QUOTA = 1;
const LENGTH = 2;

export class SpaceUsage {
  readonly #words: BigInt64Array;
  readonly #unitBytes: number;
  readonly #file: string;

  /** @param memory of newMemory() */
  constructor(memory: SharedArrayBuffer, unitBytes: number, file: string) {
    this.#words = new BigInt64Array(memory);
    this.#unitBytes = unitBytes;
    this.#file = file;
  }

  /** @param allocated units that are allocated already */
  static newMemory(allocated: number): SharedArrayBuffer {
    const memory = new SharedArrayBuffer(LENGTH * 8);
    new BigInt64Array(memory).set([BigInt(allocated), -1n]);
    return memory;
  }

  get allocatedUnits(): number {
    return Number(Atomics.load(this.#words, ALLOCATED));
  }

  get allocatedBytes(): number {
    return this.allocatedUnits * this.#unitBytes;
  }

  /** In bytes, rounded down to whole units; undefined for none. */
  get quotaBytes(): number | undefined {
    const units = Number(Atomics.load(this.#words, QUOTA));
    return units < 0 ? undefined : units * this.#unitBytes;
  }

  /** Holds for the next write of every thread. What is allocated already stays. @param bytes undefined for none */
  setQuota(bytes: number | undefined): void {
    Atomics.store(this.#words, QUOTA, bytes === undefined ? -1n : BigInt(Math.floor(bytes / this.#unitBytes)));
  }

  /** Counts units that are about to be allocated. @throws CowError `no-space` where they exceed the quota: none is counted */
  take(units: number): void {
    if (units === 0) return;
    for (;;) {
      const before = Atomics.load(this.#words, ALLOCATED);
      if (!this.#fits(before, units)) this.#refuse();
      if (Atomics.compareExchange(this.#words, ALLOCATED, before, before + BigInt(units)) === before) return;
    }
  }

  /** Would take() count them now? */
  hasRoom(units: number): boolean {
    return this.#fits(Atomics.load(this.#words, ALLOCATED), units);
  }

  /** Checks beforehand that take() would count them. @throws CowError `no-space` */
  requireRoom(units: number): void {
    if (!this.hasRoom(units)) this.#refuse();
  }

  /** Units that were taken and have not been allocated. */
  giveBack(units: number): void {
    if (units > 0) Atomics.sub(this.#words, ALLOCATED, BigInt(units));
  }

  #fits(allocated: bigint, units: number): boolean {
    const quota = Atomics.load(this.#words, QUOTA);
    return quota < 0n || units === 0 || allocated + BigInt(units) <= quota;
  }

  #refuse(): never {
    const [quotaBytes, allocatedBytes] = [this.quotaBytes ?? 0, this.allocatedBytes];
    throw new CowError(
      "no-space",
      `the quota is used up: ${formatSize(allocatedBytes)} of ${formatSize(quotaBytes)} are allocated`,
      { file: this.#file, details: { allocated_bytes: allocatedBytes, quota_bytes: quotaBytes } },
    );
  }
}
