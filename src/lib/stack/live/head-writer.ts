/**
 * Owns the first sector of an open cowfile while it is dirty: head and stamp, written whole each time from the threads'
 * shared state, under a lock, so that no value of the stamp is ever undone. The caller owns durability.
 *
 * The generation in the stamp grows with the first change of a session and then at most once a millisecond, when
 * entries go to the journal: always here first, so that a journal never has entries of a generation that its cowfile
 * has not reached.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import { type LiveStamp, writeStamp } from "../../formats/cowfile/live/stamp.ts";
import { withLock } from "./mutex.ts";
import { Control } from "./shared-state.ts";

/** A number of 48 bits in two words of shared memory, guarded by the caller's lock. */
export function readLong(control: Int32Array, at: number): number {
  return (control[at + 1] ?? 0) * 2 ** 32 + ((control[at] ?? 0) >>> 0);
}

export function writeLong(control: Int32Array, at: number, value: number): void {
  control[at] = (value % 2 ** 32) | 0;
  control[at + 1] = Math.floor(value / 2 ** 32);
}

export class HeadWriter {
  readonly #cow: BlockDevice;
  readonly #head: Uint8Array;
  readonly #sector: Uint8Array;
  readonly #stamp: LiveStamp | undefined;
  readonly #control: Int32Array;

  /**
   * @param head head and stamp as they are to be at the first change; in memory that threads share
   * @param stamp where in it the stamp is; undefined where there is no place for one
   */
  constructor(cow: BlockDevice, head: Uint8Array, stamp: LiveStamp | undefined, control: Int32Array) {
    this.#cow = cow;
    this.#head = head;
    this.#sector = Uint8Array.from(head);
    this.#stamp = stamp;
    this.#control = control;
  }

  /** Writes the head with the next generation. @throws CowError `io` */
  markDirty(): void {
    this.#write(() => this.#advance());
  }

  /** Changes the head, for all threads; it is written with the next one, or now if it is dirty. @throws CowError `io` */
  change(work: (head: Uint8Array) => void): void {
    const isDirty = Atomics.load(this.#control, Control.HEAD_DIRTY) !== 0;
    if (isDirty) this.#write(() => work(this.#head));
    else withLock(this.#control, Control.STAMP, () => work(this.#head));
  }

  /**
   * Writes the stamp: the log is valid from now on, and the data of its records up to `done` is in its place.
   * @throws CowError `io`
   */
  announceLog(done: number): void {
    this.#write(() => {
      this.#control[Control.USES_LOG] = 1;
      writeLong(this.#control, Control.LOG_DONE, done);
    });
  }

  /**
   * Reaches the next generation, unless that was done within this millisecond.
   *
   * @param isWanted it is wanted in any case
   * @returns the generation that the cowfile says now, for the journal; undefined where nothing changed, or without a stamp
   * @throws CowError `io`
   */
  tick(isWanted: boolean): number | undefined {
    if (!this.#stamp) return undefined;
    const now = Date.now() | 0;
    if (!isWanted && Atomics.load(this.#control, Control.TICKED_AT) === now) return undefined;
    let generation: number | undefined;
    this.#write(() => {
      Atomics.store(this.#control, Control.TICKED_AT, now);
      generation = this.#advance();
    });
    return generation;
  }

  #advance(): number {
    const next = readLong(this.#control, Control.GENERATION) + 1;
    writeLong(this.#control, Control.GENERATION, next);
    return next;
  }

  #write(change: () => void): void {
    withLock(this.#control, Control.STAMP, () => {
      change();
      this.#sector.set(this.#head);
      if (this.#stamp)
        writeStamp(
          {
            ...this.#stamp,
            usesLog: this.#control[Control.USES_LOG] === 1,
            logDone: readLong(this.#control, Control.LOG_DONE),
            generation: readLong(this.#control, Control.GENERATION),
          },
          this.#sector,
        );
      this.#cow.write(this.#sector, 0);
    });
  }
}
