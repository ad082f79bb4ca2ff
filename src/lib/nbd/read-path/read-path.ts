/**
 * Owns how the reads of one connection are answered: the ways there are, and their order.
 *
 *   1. gather  the data is in memory, in a mapped file: the reply points to it, nothing is copied      sent
 *   2. try     it is copied if it is in the page cache,                                                sent
 *              and otherwise fetched while other requests go on                                        queued
 *   3. wait    it is read, however long that takes; large replies gather, piece by piece               must wait
 *
 * While reads are fast, a read tries 1, then 3. Once one was slow, small reads try 2 before 3 and leave 1 out: a page that is
 * not in memory would hold up all replies behind it. A read with no other request behind it or queued skips 2, as there is
 * nothing to do meanwhile. That ends after a number of reads in a row that were fast.
 *
 * What is sent by 1 and turns out not to be in memory (EFAULT: a bad disk, a file cut short) is answered again by copy().
 */
import type { OnCacheMiss } from "../../device/block-device.ts";
import { MajorFaults } from "../../device/sys/major-faults.ts";
import { nowNs } from "../meter/clock.ts";
import { HEAD_BYTES_AT_MOST, OUTBOX_BYTES } from "../transmission/outbox.ts";
import type { Request } from "../transmission/request.ts";
import { CacheMisses } from "./cache-misses.ts";
import {
  answerGathered,
  answerIfCached,
  answerRead,
  isOnePiece,
  type ReplyWay,
  SMALL_READ_BYTES,
} from "./read-reply.ts";
import { sendAgain } from "./unsent.ts";

/** A longer read did not come from memory: this, plus the time that copying its bytes takes at the slowest. */
const SLOW_NS = 50_000;
const NS_PER_BYTE = 1;
/** After this many consecutive fast reads, small reads skip way 2. */
const FAST_IN_A_ROW = 256;
/** At the start it is not known whether reads are slow. */
const TRIES_AT_FIRST = 16;

function isSlow(startNs: number, bytes: number): boolean {
  return nowNs() - startNs > SLOW_NS + bytes * NS_PER_BYTE;
}

export class ReadPath {
  readonly #way: ReplyWay;
  readonly #misses = new CacheMisses();
  readonly #faults = new MajorFaults();
  /** Reads left to be tried first; 0 while reads are fast. */
  #tries = TRIES_AT_FIRST;
  #missed: Parameters<OnCacheMiss> | undefined;
  readonly #onCacheMiss: OnCacheMiss = (...place) => {
    this.#missed = place;
  };

  constructor(way: ReplyWay) {
    this.#way = way;
  }

  /** Reads that are queued. */
  get queued(): number {
    return this.#misses.count;
  }

  /**
   * Answers a read whose range is in the image, if that needs no waiting.
   *
   * @param isAlone no other request has come
   * @returns `sent`: the reply is in the outbox; `queued`: takeQueued() has it later; `must wait`: call wait()
   */
  answer(request: Request, isAlone: boolean): "sent" | "queued" | "must wait" {
    this.#makeRoom(request);
    if (!this.#isTriedFirst(request)) return this.#gathers(request) ? "sent" : "must wait";
    const isUseless = request.length === 0 || (isAlone && this.queued === 0);
    if (isUseless || this.#misses.isFull) return "must wait";
    this.#missed = undefined;
    if (answerIfCached(this.#way, request, this.#onCacheMiss)) {
      this.#tries--;
      return "sent";
    }
    this.#tries = FAST_IN_A_ROW;
    this.#misses.add(request, this.#missed);
    return "queued";
  }

  /** Are reads slow, and is this one small? */
  #isTriedFirst({ length }: Request): boolean {
    return this.#tries > 0 && length <= SMALL_READ_BYTES;
  }

  #gathers(request: Request): boolean {
    const { outbox, structured } = this.#way;
    return outbox.canGather && isOnePiece(request, structured) && answerGathered(this.#way, request);
  }

  /** Answers a read that answer() has said must wait. @returns false if the connection must end @throws what reading threw */
  wait(request: Request): boolean {
    const { outbox, structured } = this.#way;
    const start = nowNs();
    // A single piece that could have been gathered was not in memory.
    const gathers = outbox.canGather && !this.#isTriedFirst(request) && !isOnePiece(request, structured);
    this.#makeRoom(request);
    const isWhole = answerRead(this.#way, gathers ? "gather" : "copy", request);
    if (isSlow(start, request.length)) this.#tries = FAST_IN_A_ROW;
    else if (this.#tries > 0) this.#tries--;
    return isWhole;
  }

  /** Answers a read that was queued, or could not be gathered. @returns and throws as wait() */
  copy(request: Request): boolean {
    this.#makeRoom(request);
    return answerRead(this.#way, "copy", request);
  }

  /** Queued reads for copy(), at least one if there is one; blocks until its data has come. */
  takeQueued(): Iterable<Request> {
    return this.#misses.next();
  }

  /** Begins to fetch what is queued. */
  beginFetching(): void {
    this.#misses.begin();
  }

  /**
   * Sends what is in the outbox.
   *
   * @param startNs the time
   * @param answer answers a read by copy(): one whose gathered data could not be read
   * @returns false if the connection must end
   */
  send(startNs: number, answer: (request: Request) => void): boolean {
    const { image, outbox } = this.#way;
    const bytes = outbox.pending;
    if (bytes === outbox.length) {
      outbox.flush();
      return true;
    }
    const unsent = outbox.flush();
    // A slow client is told from a slow disk by the pages that the kernel had to wait for.
    if (unsent.length > 0 || (isSlow(startNs, bytes) && this.#faults.haveGrown())) {
      this.#tries = FAST_IN_A_ROW;
      image.invalidateMappings();
    }
    return unsent.length === 0 || sendAgain(unsent, image, outbox, answer);
  }

  #makeRoom({ length }: Request): void {
    const { outbox, send } = this.#way;
    if (outbox.room < Math.min(length, OUTBOX_BYTES / 2) + HEAD_BYTES_AT_MOST) send();
  }

  /** The connection has ended. */
  end(): void {
    this.#misses.end();
  }
}
