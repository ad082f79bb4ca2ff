/**
 * Owns the small reads of one connection that have to wait for a disk: while reads are slow, each is tried without
 * waiting; those that would wait are fetched by the kernel side by side, and answered later. While reads are fast, this
 * costs nothing but a look at the clock.
 */
import type { OnCacheMiss } from "../../device/block-device.ts";
import { threadFetcher } from "../../device/sys/fetcher.ts";
import { MajorFaults } from "../../device/sys/major-faults.ts";
import { willNeed } from "../../device/sys/nowait.ts";
import type { LiveImage } from "../../stack/live/image.ts";
import type { Outbox } from "../transmission/outbox.ts";
import { Request } from "../transmission/request.ts";
import { answerIfCached, SMALL_READ_BYTES } from "./read-reply.ts";

/** A read that takes longer did not come out of memory: so long, and the time in which so much is copied at the slowest. */
const SLOW_MS = 0.05;
const BYTES_PER_MS = 1e6;
/** So many reads in a row from memory, and they are no longer tried first. */
const FAST_IN_A_ROW = 256;
const TRIES_AT_FIRST = 16;
const WAITING_AT_MOST = 64;
/** Without knowing what has come, so many are answered before the socket is looked at again. */
const AT_A_TIME = 4;
const BEGUN_TOGETHER = 8;

/** Numbers are a thread's, as is what fetches. */
let lastNumber = 0;

/** Has a part of a file read into the page cache. @returns whether somebody will tell when it is there */
function fetch(number: number, ...place: Parameters<OnCacheMiss>): boolean {
  const fetcher = threadFetcher();
  if (fetcher && !fetcher.isFull) {
    fetcher.add(...place, number);
    // The disk need not wait for the end of a long batch.
    if (fetcher.queued >= BEGUN_TOGETHER) fetcher.begin();
    return true;
  }
  willNeed(...place);
  return false;
}

function isSlow(start: number, bytes: number): boolean {
  return performance.now() - start > SLOW_MS + bytes / BYTES_PER_MS;
}

export class ColdReads {
  readonly #image: LiveImage;
  readonly #outbox: Outbox;
  readonly #structured: boolean;
  /** Reads that wait, by number, the oldest first. */
  readonly #waiting = new Map<number, Request>();
  /** Numbers of those that need wait no longer. */
  #come: number[] = [];
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
    return this.#waiting.size;
  }

  /** Are reads slow, and is this one small? */
  wants({ length }: Request): boolean {
    return this.#tries > 0 && length <= SMALL_READ_BYTES;
  }

  /**
   * Takes a read over if it is small and reads are slow: it is answered now, or later.
   *
   * @param isAlone nothing else waits: then there is nothing to be fetched side by side with
   */
  take(request: Request, isAlone: boolean): boolean {
    if (isAlone && this.#waiting.size === 0) return false;
    if (!this.wants(request) || request.length === 0) return false;
    if (this.#waiting.size >= WAITING_AT_MOST) return false;
    const number = ++lastNumber;
    let isFetched = false;
    const onCacheMiss: OnCacheMiss = (...place) => {
      isFetched = fetch(number, ...place);
    };
    if (answerIfCached(this.#image, this.#outbox, request, this.#structured, onCacheMiss)) {
      this.#tries--;
      return true;
    }
    this.#tries = FAST_IN_A_ROW;
    const copy = this.#spare.pop() ?? new Request();
    copy.copy(request);
    this.#waiting.set(number, copy);
    if (!isFetched) this.#come.push(number);
    return true;
  }

  /** Begins what take() found to be fetched. */
  begin(): void {
    if (this.#waiting.size > 0) threadFetcher()?.begin();
  }

  /** The clock before a read that take() did not want. */
  start(): number {
    return performance.now();
  }

  /** And after it. */
  stop(start: number, bytes: number): void {
    if (isSlow(start, bytes)) this.noteSlow();
    else if (this.#tries > 0) this.#tries--;
  }

  /**
   * After data was sent from where it lies: a client that takes its time is told from a disk that does by what the kernel
   * had to wait for.
   */
  endOfSend(start: number, bytes: number): void {
    if (isSlow(start, bytes) && this.#faults.haveGrown()) this.distrust();
  }

  /** What was to be sent from where it lies was not there. */
  distrust(): void {
    this.noteSlow();
    this.#image.invalidateMappings();
  }

  /** Something that was read had to be waited for. */
  noteSlow(): void {
    this.#tries = FAST_IN_A_ROW;
  }

  /** Some of the reads that wait, to be answered now: what has come, or where nobody can tell that, the oldest. */
  *next(): Generator<Request> {
    const fetcher = threadFetcher();
    if (fetcher && this.#come.length === 0) fetcher.wait((number) => this.#come.push(number));
    const come = this.#come;
    this.#come = [];
    const numbers = fetcher && come.length > 0 ? come : [...this.#waiting.keys()].slice(0, AT_A_TIME);
    for (const number of numbers) {
      const request = this.#waiting.get(number);
      if (!request) continue;
      this.#waiting.delete(number);
      yield request;
      this.#spare.push(request);
    }
  }

  /** Waits for what is under way: it may not come to somebody else's connection. */
  end(): void {
    if (this.#waiting.size > 0) threadFetcher()?.drain();
    this.#waiting.clear();
  }
}
