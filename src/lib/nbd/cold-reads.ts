/**
 * Owns the small reads of one connection that have to wait for a disk: while reads are slow, each is tried without
 * waiting; those that would wait are fetched by the kernel side by side, and answered later. While reads are fast, this
 * costs nothing but a look at the clock.
 */

import { MajorFaults } from "../device/sys/major-faults.ts";
import type { LiveImage } from "../overlay/live/image.ts";
import type { Outbox } from "./outbox.ts";
import { answerReadNow, SMALL_READ_BYTES } from "./read-reply.ts";
import { Request } from "./request.ts";

/** A read that takes longer did not come out of memory: so long, and the time in which so much is copied at the slowest. */
const SLOW_MS = 0.05;
const BYTES_PER_MS = 1e6;
/** So many reads in a row from memory, and they are no longer tried first. */
const FAST_IN_A_ROW = 256;
const TRIES_AT_FIRST = 16;
const WAITING_AT_MOST = 64;

export class ColdReads {
  readonly #image: LiveImage;
  readonly #outbox: Outbox;
  readonly #structured: boolean;
  readonly #waiting: Request[] = [];
  readonly #spare: Request[] = [];
  readonly #faults = new MajorFaults();
  /** Reads to be tried first before that stops; 0 while reads are fast. Nobody knows at the start. */
  #tries = TRIES_AT_FIRST;

  constructor(image: LiveImage, outbox: Outbox, structured: boolean) {
    this.#image = image;
    this.#outbox = outbox;
    this.#structured = structured;
  }

  /** Reads that are being fetched. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * Takes a read over if it is small and reads are slow: it is answered now, or later.
   *
   * @param isAlone nothing else waits: then there is nothing to be fetched side by side with
   */
  take(request: Request, isAlone: boolean): boolean {
    if (isAlone && this.#waiting.length === 0) return false;
    if (this.#tries === 0 || request.length > SMALL_READ_BYTES || request.length === 0) return false;
    if (this.#waiting.length >= WAITING_AT_MOST) return false;
    if (answerReadNow(this.#image, this.#outbox, request, this.#structured)) {
      this.#tries--;
      return true;
    }
    this.#tries = FAST_IN_A_ROW;
    const copy = this.#spare.pop() ?? new Request();
    copy.copy(request);
    this.#waiting.push(copy);
    return true;
  }

  /** The clock before a read that take() did not want. */
  start(): number {
    return performance.now();
  }

  /** And after it. */
  end(start: number, bytes: number): void {
    if (performance.now() - start > SLOW_MS + bytes / BYTES_PER_MS) this.noteSlow();
    else if (this.#tries > 0) this.#tries--;
  }

  /**
   * After data was sent from where it lies: a client that takes its time is told from a disk that does by what the kernel
   * had to wait for.
   */
  endOfSend(start: number, bytes: number): void {
    if (performance.now() - start > SLOW_MS + bytes / BYTES_PER_MS && this.#faults.haveGrown()) this.distrust();
  }

  /** What was to be sent from where it lies was not there. */
  distrust(): void {
    this.noteSlow();
    this.#image.distrustAddresses();
  }

  /** Something that was read had to be waited for. */
  noteSlow(): void {
    this.#tries = FAST_IN_A_ROW;
  }

  /** The reads that have waited longest, to be answered now. */
  *next(count: number): Generator<Request> {
    for (const request of this.#waiting.splice(0, count)) {
      yield request;
      this.#spare.push(request);
    }
  }
}
