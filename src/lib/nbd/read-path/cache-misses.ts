/**
 * Owns the small reads of one connection whose data is not in the page cache: the kernel fetches it for many side by side,
 * and they are answered as it comes.
 */
import type { OnCacheMiss } from "../../device/block-device.ts";
import { threadFetcher } from "../../device/sys/fetcher.ts";
import { willNeed } from "../../device/sys/nowait.ts";
import { Request } from "../transmission/request.ts";

const QUEUED_AT_MOST = 64;
/** If the kernel does not report completions, this many are answered before the socket is looked at again. */
const AT_A_TIME = 4;
const BEGUN_TOGETHER = 8;

/** Where the data must be read from, as tryRead() reported. */
type Place = Parameters<OnCacheMiss>;

/** The numbers and the fetcher belong to a thread. */
let lastNumber = 0;

/** Has a part of a file read into the page cache. @returns whether the fetcher will report it */
function fetch(number: number, place: Place): boolean {
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

export class CacheMisses {
  /** By number, the oldest first. */
  readonly #queued = new Map<number, Request>();
  /** Numbers of those that were fetched. */
  #come: number[] = [];
  readonly #spare: Request[] = [];

  get count(): number {
    return this.#queued.size;
  }

  get isFull(): boolean {
    return this.#queued.size >= QUEUED_AT_MOST;
  }

  /** Queues a read. @param place undefined if its data is in several places: it does not wait for a fetch then */
  add(request: Request, place: Place | undefined): void {
    const number = ++lastNumber;
    const copy = this.#spare.pop() ?? new Request();
    copy.copy(request);
    this.#queued.set(number, copy);
    if (!place || !fetch(number, place)) this.#come.push(number);
  }

  /** Begins to fetch what was queued. */
  begin(): void {
    if (this.#queued.size > 0) threadFetcher()?.begin();
  }

  /** Takes reads out of the queue to be answered now: those whose data has come, or if that is unknown, the oldest. */
  *next(): Generator<Request> {
    const fetcher = threadFetcher();
    if (fetcher && this.#come.length === 0) fetcher.wait((number) => this.#come.push(number));
    const come = this.#come;
    this.#come = [];
    const numbers = fetcher && come.length > 0 ? come : [...this.#queued.keys()].slice(0, AT_A_TIME);
    for (const number of numbers) {
      const request = this.#queued.get(number);
      if (!request) continue;
      this.#queued.delete(number);
      yield request;
      this.#spare.push(request);
    }
  }

  /** Waits for pending fetches: they must not be reported to the thread's next connection. */
  end(): void {
    if (this.#queued.size > 0) threadFetcher()?.drain();
    this.#queued.clear();
  }
}
