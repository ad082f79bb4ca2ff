/**
 * Owns the events of a running server: they are numbered, the latest are kept for a listener that was cut off, and a
 * listener that does not keep up loses the oldest ones, which is all that it can do to the server.
 */
import type { EventDocument } from "./documents.ts";

/** Kept for listeners that come back. */
const KEPT = 256;
/** Held for one listener. */
const QUEUED_AT_MOST = 1024;

export type NewEvent = Omit<EventDocument, "id" | "time_ms">;

export class EventHub {
  readonly #kept: EventDocument[] = [];
  readonly #listeners = new Set<(event: EventDocument) => void>();
  readonly #onEvent: ((event: EventDocument) => void) | undefined;
  #nextId = 1;
  #isOver = false;

  /** @param onEvent told every event at once */
  constructor(onEvent?: (event: EventDocument) => void) {
    this.#onEvent = onEvent;
  }

  publish(event: NewEvent): void {
    const whole = this.stamp(event);
    this.#onEvent?.(whole);
    this.#kept.push(whole);
    if (this.#kept.length > KEPT) this.#kept.shift();
    for (const listener of this.#listeners) listener(whole);
  }

  /** Numbers an event that only one listener gets. */
  stamp(event: NewEvent): EventDocument {
    return { id: this.#nextId++, time_ms: Date.now(), ...event };
  }

  /** Ends every listener's stream. */
  end(): void {
    this.publish({ type: "ending" });
    this.#isOver = true;
    const last = { id: this.#nextId, time_ms: Date.now(), type: "ended" };
    for (const listener of this.#listeners) listener(last);
    this.#listeners.clear();
  }

  /**
   * The events from now on, and those kept after the event `lastId` if that is given. Ends with the server, or when
   * `signal` fires.
   */
  async *listen(signal: AbortSignal, lastId?: number): AsyncGenerator<EventDocument> {
    const queue: EventDocument[] = lastId === undefined ? [] : this.#kept.filter(({ id }) => id > lastId);
    let wake: () => void = () => undefined;
    const onEvent = (event: EventDocument): void => {
      queue.push(event);
      if (queue.length > QUEUED_AT_MOST) queue.shift();
      wake();
    };
    const onAbort = (): void => wake();
    signal.addEventListener("abort", onAbort);
    if (!this.#isOver) this.#listeners.add(onEvent);
    try {
      while (!signal.aborted) {
        const event = queue.shift();
        if (event?.type === "ended") return;
        if (event) yield event;
        else if (this.#isOver) return;
        else
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
      }
    } finally {
      this.#listeners.delete(onEvent);
      signal.removeEventListener("abort", onAbort);
    }
  }
}
