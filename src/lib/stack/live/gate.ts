/**
 * Owns the gate of an open stack: how every connection comes to the boundary of a batch, stops there, and continues with
 * other parts of the stack. Also when the files of the old parts may be closed.
 *
 * The words: SHUT and EPOCH belong to the stack. The epoch counts how often its parts were replaced. Each connection has a
 * word of its own, its slot:
 *
 *   idle      between two batches; it refers to no part
 *   holding   it changes nothing, and may refer to parts of an epoch: it sends replies, perhaps to a slow client, or waits
 *             at the gate
 *   flushing  it makes the top of an epoch durable, which may take long; what it changed is committed
 *   active    it works with the parts of an epoch
 *
 * The rule, whatever the threads do in between:
 *
 *   a connection     says "active" and only then looks at SHUT. If it is shut, it says "holding" and sleeps until it is
 *                    open. Only then it looks at EPOCH, and takes the parts of that epoch. It stops being active only when
 *                    all that it changed is committed
 *   the main thread  says SHUT and only then looks at the slots. Once none is active, nothing is changed until it opens the
 *                    gate. What an epoch needs is told to every thread before EPOCH says it
 *
 * So no connection works with old parts once the main thread has seen every slot and said the next epoch. Where old and new
 * parts have the same content, the epoch may change with the gate open: a connection takes them at its next batch. A slot
 * names the oldest epoch that it may refer to: files of an epoch are closed when no slot names it or an older one, and a former
 * top is not marked clean while one of its own epoch flushes it.
 */

/** Words of a stack. */
const SHUT = 0;
const EPOCH = 1;

/** States of a slot; the epoch is above them. */
const IDLE = 0;
const ACTIVE = 1;
const HOLDING = 2;
const FLUSHING = 3;
const STATES = 4;

/** How long the main thread looks again and again before it lets its event loop run: most batches are shorter. */
const SPIN_MS = 0.3;
/** How often it looks whether old parts are still in use. */
const LOOK_MS = 5;

/** What the thread of a connection needs. */
export interface PassedGate {
  readonly words: SharedArrayBuffer;
  readonly slot: SharedArrayBuffer;
}

/** What a thread has of a stack. */
export interface Current {
  /** Of the parts that it has. */
  readonly epoch: number;
  /** Takes the parts of an epoch. */
  reach(epoch: number): void;
}

/** The gate, for the main thread. */
export class Gate {
  readonly #words = new Int32Array(new SharedArrayBuffer(8));
  readonly #slots = new Set<Int32Array>();

  /**
   * A connection begins.
   * @returns what its thread needs; `hold` says that the present parts are passed to that, which may not have begun; `close` is
   *   called when no thread uses it any more
   */
  connect(): { readonly passed: PassedGate; readonly hold: () => void; readonly close: () => void } {
    const slot = new Int32Array(new SharedArrayBuffer(4));
    this.#slots.add(slot);
    return {
      passed: { words: this.#words.buffer as SharedArrayBuffer, slot: slot.buffer as SharedArrayBuffer },
      hold: () => void Atomics.store(slot, 0, (this.epoch * STATES + HOLDING) | 0),
      close: () => void this.#slots.delete(slot),
    };
  }

  get epoch(): number {
    return Atomics.load(this.#words, EPOCH);
  }

  /** Says that the parts of the next epoch count. Every thread has been told of them. */
  advance(): void {
    Atomics.add(this.#words, EPOCH, 1);
  }

  /** No connection begins another batch. */
  close(): void {
    Atomics.store(this.#words, SHUT, 1);
  }

  open(): void {
    Atomics.store(this.#words, SHUT, 0);
    Atomics.notify(this.#words, SHUT);
  }

  /** Is a connection in the middle of a batch? */
  get isActive(): boolean {
    for (const slot of this.#slots) if (isActive(Atomics.load(slot, 0))) return true;
    return false;
  }

  /** Resolves once no connection is in the middle of a batch. @param until on the clock of `performance` @returns false if one still is then */
  async emptied(until: number): Promise<boolean> {
    for (const slot of [...this.#slots]) {
      for (let value = Atomics.load(slot, 0); isActive(value); value = Atomics.load(slot, 0)) {
        const left = until - performance.now();
        if (left <= 0) return false;
        await Atomics.waitAsync(slot, 0, value, left).value;
      }
    }
    return true;
  }

  /** Resolves once no connection refers to parts older than those of `epoch`. */
  past(epoch: number): Promise<void> {
    return this.#without((value) => value !== IDLE && isBefore(value, epoch));
  }

  /** Resolves once no connection flushes the top of an epoch before `epoch`. */
  flushed(epoch: number): Promise<void> {
    return this.#without((value) => value % STATES === FLUSHING && isBefore(value, epoch));
  }

  async #without(isMeant: (value: number) => boolean): Promise<void> {
    while ([...this.#slots].some((slot) => isMeant(Atomics.load(slot, 0))))
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS).unref());
  }
}

function isActive(value: number): boolean {
  return value % STATES === ACTIVE;
}

function isBefore(value: number, epoch: number): boolean {
  // A difference, because the numbers wrap.
  return ((Math.floor(value / STATES) - epoch) | 0) < 0;
}

/**
 * Shuts gates, all at one instant: once it resolves with true, no connection of any of them changes anything until open().
 *
 * @param limitMs how long it waits for batches to end
 * @returns the gates that are not empty by then; all are open again then
 */
export async function shut(gates: readonly Gate[], limitMs: number): Promise<readonly Gate[]> {
  const start = performance.now();
  for (const gate of gates) gate.close();
  while (gates.some((gate) => gate.isActive) && performance.now() - start < SPIN_MS) {
    // Most batches end within this time.
  }
  const busy: Gate[] = [];
  for (const gate of gates) if (!(await gate.emptied(start + limitMs))) busy.push(gate);
  if (busy.length > 0) for (const gate of gates) gate.open();
  return busy;
}

/** A connection's way through the gate. */
export class Passage {
  readonly #words: Int32Array;
  readonly #slot: Int32Array;
  readonly #current: Current;
  /** The oldest epoch that this batch may refer to. */
  #oldest: number;

  /** @param current what its thread has, for all of its connections to the stack */
  constructor({ words, slot }: PassedGate, current: Current) {
    this.#words = new Int32Array(words);
    this.#slot = new Int32Array(slot);
    this.#current = current;
    this.#oldest = current.epoch;
  }

  /** Begins a batch: from here on the parts of the stack are used. Waits where the gate is shut. */
  enter(): void {
    while (!this.tryEnter()) Atomics.wait(this.#words, SHUT, 1);
  }

  /** As enter(). @returns false where the gate is shut: then opened() tells when to try again */
  tryEnter(): boolean {
    this.#oldest = this.#current.epoch;
    if (!this.#tryGoOn()) return false;
    if (this.#oldest !== this.#current.epoch) {
      this.#oldest = this.#current.epoch;
      this.#say(ACTIVE);
    }
    return true;
  }

  /** Continues a batch after hold(), perhaps with other parts. */
  goOn(): void {
    while (!this.#tryGoOn()) Atomics.wait(this.#words, SHUT, 1);
  }

  #tryGoOn(): boolean {
    this.#say(ACTIVE);
    if (Atomics.load(this.#words, SHUT) === 1) {
      this.hold();
      return false;
    }
    const epoch = Atomics.load(this.#words, EPOCH);
    if (epoch !== this.#current.epoch) this.#current.reach(epoch);
    return true;
  }

  /** Resolves when the gate has been opened. */
  async opened(): Promise<void> {
    await Atomics.waitAsync(this.#words, SHUT, 1).value;
  }

  /** Nothing is changed until goOn() or enter(), and all changes are committed; but parts may still be read. */
  hold(): void {
    this.#say(HOLDING);
    this.#tell();
  }

  /** Does `work`, a flush, for which the gate does not wait: all changes are committed. Continues then, perhaps with other parts. */
  flush(work: () => void): void {
    this.#say(FLUSHING);
    this.#tell();
    try {
      work();
    } finally {
      this.goOn();
    }
  }

  /** The batch is done, and all changes are committed. No part is used until enter(). */
  leave(): void {
    Atomics.store(this.#slot, 0, IDLE);
    this.#tell();
  }

  #say(state: number): void {
    Atomics.store(this.#slot, 0, (this.#oldest * STATES + state) | 0);
  }

  #tell(): void {
    if (Atomics.load(this.#words, SHUT) === 1) Atomics.notify(this.#slot, 0);
  }
}
