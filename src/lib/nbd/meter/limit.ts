/**
 * Owns the limit of an export: requests and bytes per second, over all of its connections, in memory that their threads
 * share. Two token buckets, each as the one moment at which everything that was let in is paid for: a request moves it on
 * by its cost, and waits until it is no more than a burst away. So a connection that waits has its place in the queue.
 *
 * Fair: a connection asks for one request at a time, and for large data piece by piece, so that those of one export take
 * turns. READ, WRITE, WRITE_ZEROES and TRIM count as requests, READ and WRITE with their bytes; all else is free.
 */
import { Shared } from "./slot.ts";

/** What may be taken at once after a rest: what the rate gives in this time, or one request. */
const BURST_NS = 100_000_000n;
const SECOND_NS = 1_000_000_000n;
/** Connections take turns after this many bytes. */
const TURN_BYTES = 64 * 1024;
const IS_LIMITED = 2 * Shared.IS_LIMITED;

/** Undefined: no limit. */
export interface Limits {
  /** Requests per second, at least 1. */
  readonly iops?: number | undefined;
  /** At least 1. */
  readonly bytesPerSecond?: number | undefined;
}

export class Limit {
  readonly #words: Int32Array;
  readonly #longs: BigInt64Array;
  readonly #now: () => bigint;

  constructor(shared: SharedArrayBuffer, now: () => bigint = process.hrtime.bigint) {
    this.#words = new Int32Array(shared);
    this.#longs = new BigInt64Array(shared);
    this.#now = now;
  }

  get isOn(): boolean {
    return Atomics.load(this.#words, IS_LIMITED) === 1;
  }

  get limits(): Limits {
    return { iops: this.#rate(Shared.IOPS), bytesPerSecond: this.#rate(Shared.BYTES_PER_SECOND) };
  }

  /** Holds from now on: what was owed under the old limit is forgotten. The caller wakes those that wait. */
  set({ iops, bytesPerSecond }: Limits): void {
    Atomics.store(this.#longs, Shared.IOPS, BigInt(Math.floor(iops ?? 0)));
    Atomics.store(this.#longs, Shared.BYTES_PER_SECOND, BigInt(Math.floor(bytesPerSecond ?? 0)));
    Atomics.store(this.#longs, Shared.OPERATIONS_PAID_NS, 0n);
    Atomics.store(this.#longs, Shared.BYTES_PAID_NS, 0n);
    Atomics.store(this.#words, IS_LIMITED, iops === undefined && bytesPerSecond === undefined ? 0 : 1);
  }

  /** Charges for one request, or for a further piece of its data. @returns how long to wait before it may begin */
  charge(requests: number, bytes: number): number {
    const now = this.#now();
    const forRequests = this.#pay(Shared.OPERATIONS_PAID_NS, Shared.IOPS, requests, now);
    const forBytes = this.#pay(Shared.BYTES_PAID_NS, Shared.BYTES_PER_SECOND, bytes, now);
    return Math.max(Number(forRequests), Number(forBytes)) / 1e6;
  }

  #rate(place: number): number | undefined {
    return Number(Atomics.load(this.#longs, place)) || undefined;
  }

  #pay(paidAt: number, rateAt: number, amount: number, now: bigint): bigint {
    const rate = Atomics.load(this.#longs, rateAt);
    if (rate === 0n || amount === 0) return 0n;
    const cost = (BigInt(amount) * SECOND_NS) / rate;
    for (;;) {
      const paid = Atomics.load(this.#longs, paidAt);
      const from = paid > now ? paid : now;
      if (Atomics.compareExchange(this.#longs, paidAt, paid, from + cost) !== paid) continue;
      const early = BURST_NS > cost ? BURST_NS - cost : 0n;
      return from - now > early ? from - now - early : 0n;
    }
  }
}

/** One connection's turns. */
export class Turn {
  readonly #limit: Limit;
  /** Bytes of the request that are not paid for yet; undefined between requests. */
  #left: number | undefined;

  constructor(limit: Limit) {
    this.#limit = limit;
  }

  /**
   * @param isAgain for the same request as before, which has waited
   * @returns milliseconds to wait and then ask again; 0: the request may begin
   */
  ask(bytes: number, isAgain: boolean): number {
    if (!isAgain) this.#left = undefined;
    do {
      const requests = this.#left === undefined ? 1 : 0;
      const left = this.#left ?? bytes;
      const piece = Math.min(left, TURN_BYTES);
      if (requests + piece === 0) break;
      this.#left = left - piece;
      const waitMs = this.#limit.charge(requests, piece);
      if (waitMs > 0) return waitMs;
    } while (this.#left > 0);
    this.#left = undefined;
    return 0;
  }
}
