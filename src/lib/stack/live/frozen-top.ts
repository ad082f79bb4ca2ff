/**
 * Owns a layer that was the top until a moment ago: it is read as any lower layer, and until it is settled a flush of the
 * stack covers it, too.
 *
 * The rule: the main thread settles it, and any thread may flush it before. STATE says "settled" only when everything that
 * was replied to is durable in it, and the stack file that names the new top as well. Both do their work under LOCK, and
 * look at STATE under it: so no thread writes to the file once it is settled. NAMED says whether the new stack file is
 * durable; a flush waits until the main thread has said so, one way or the other.
 */
import { CowError } from "../../errors.ts";
import { frozenLayer, makeOrder, type SharedCowfile } from "./cowfile-config.ts";
import { withLock } from "./mutex.ts";
import type { ResidentLayer } from "./resident-layer.ts";
import type { WriteOrder } from "./write-order.ts";

/** Places in the shared words. */
const LOCK = 0;
/** 1 once it is settled. */
const STATE = 1;
/** See Named. */
const NAMED = 2;
const LENGTH = 3;

/** Values of NAMED. */
const Named = { OPEN: 0, DURABLE: 1, FAILED: 2 } as const;

export class FrozenTop {
  readonly shared: SharedCowfile;
  /** For other threads. */
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;
  #order: WriteOrder | undefined;

  /** @param memory of newMemory() */
  constructor(shared: SharedCowfile, memory: SharedArrayBuffer) {
    this.shared = shared;
    this.memory = memory;
    this.#words = new Int32Array(memory);
  }

  static newMemory(): SharedArrayBuffer {
    return new SharedArrayBuffer(LENGTH * 4);
  }

  /** It as a layer, for this thread. */
  layer(): ResidentLayer {
    return frozenLayer(this.shared);
  }

  /** Makes durable what was replied to while it was the top. @throws CowError `io` */
  flush(): void {
    if (this.isSettled) return;
    Atomics.wait(this.#words, NAMED, Named.OPEN);
    this.#requireNamed();
    this.#order ??= makeOrder(this.shared);
    const order = this.#order;
    withLock(this.#words, LOCK, () => {
      if (!this.isSettled) order.flush();
    });
  }

  get isSettled(): boolean {
    return Atomics.load(this.#words, STATE) === 1;
  }

  #requireNamed(): void {
    if (Atomics.load(this.#words, NAMED) !== Named.FAILED) return;
    throw new CowError("io", "it could not be made durable that the stack file names a layer over it", {
      file: this.shared.cow.name,
    });
  }

  /** For the main thread: the stack file was made durable by `work`, or that failed. @throws what `work` throws */
  named(work: () => void): void {
    let state: number = Named.FAILED;
    try {
      work();
      state = Named.DURABLE;
    } finally {
      Atomics.store(this.#words, NAMED, state);
      Atomics.notify(this.#words, NAMED);
    }
  }

  /**
   * For the main thread: makes everything durable in its place by `work`; no thread writes to the file afterwards.
   * @throws what `work` throws: it is not settled then
   */
  settle(work: () => void): void {
    this.#requireNamed();
    withLock(this.#words, LOCK, () => {
      work();
      Atomics.store(this.#words, STATE, 1);
    });
  }
}
