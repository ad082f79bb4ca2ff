/**
 * Owns one thread's way into the flush log: small writes are remembered, data and all, until the next flush takes them down
 * in one record. What is too large, or no plain write, ends that until the next checkpoint, which needs no log.
 *
 * What is remembered is what all threads have written since the last flush, in the order in which it reached the file:
 * changing and remembering are one under a lock. While there is something that is not remembered, no change takes that lock.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import {
  dataOffset,
  MAX_RECORD_DATA_BYTES,
  MAX_RECORD_EXTENTS,
  recordBytes,
  sealRecord,
} from "../../formats/cowfile/live/flush-log.ts";
import { readLong, writeLong } from "./head-writer.ts";
import { lock, unlock, withLock } from "./mutex.ts";
import { announce, Control, Failure, type SharedState, Unflushed } from "./shared-state.ts";
import type { PlacedData } from "./writable-layer.ts";

const SECTOR_BYTES = 512;

/** Values of `LOG_STATE`. */
export const LogState = {
  /** The cowfile's stamp does not mention a log yet. */
  UNANNOUNCED: 0,
  READY: 1,
  /** There was no space for it, or it could not be written. */
  UNUSABLE: 2,
} as const;

export class FlushLogWriter {
  readonly #journal: BlockDevice;
  readonly #nonce: Uint8Array;
  /** The log's offset in the journal. */
  readonly #place: { readonly offset: number; readonly size: number };
  readonly #control: Int32Array;
  readonly #data: Uint8Array;
  /** Per extent: offset and length. */
  readonly #extents: Float64Array;
  /** The record that is being written: this thread's own, reused. */
  readonly #record = new Uint8Array(recordBytes(MAX_RECORD_EXTENTS, MAX_RECORD_DATA_BYTES));

  constructor(
    journal: BlockDevice,
    nonce: Uint8Array,
    place: { readonly offset: number; readonly size: number },
    state: SharedState,
  ) {
    this.#journal = journal;
    this.#nonce = nonce;
    this.#place = place;
    this.#control = state.control;
    this.#extents = state.logPlaces;
    this.#data = state.logData;
  }

  /**
   * Makes a change and remembers it, as one.
   *
   * @param change writes the data to its place, and marks what it has to
   * @returns false where it can't be remembered: nothing was done then
   * @throws what the change threw; part of it may be done then
   */
  remember({ source, offset }: PlacedData, change: () => void): boolean {
    if (!this.isComplete) return false;
    // Whole sectors only: parts of one would be put back beside parts of another time.
    if ((offset | source.length) % SECTOR_BYTES !== 0 || source.length > MAX_RECORD_DATA_BYTES) return false;
    lock(this.#control, Control.LOG);
    try {
      if (!this.isComplete) return false;
      const count = this.#control[Control.LOG_COUNT] ?? 0;
      const fill = this.#control[Control.LOG_FILL] ?? 0;
      if (count === MAX_RECORD_EXTENTS || fill + source.length > MAX_RECORD_DATA_BYTES) return false;
      change();
      this.#data.set(source, fill);
      this.#extents[2 * count] = offset;
      this.#extents[2 * count + 1] = source.length;
      this.#control[Control.LOG_FILL] = fill + source.length;
      Atomics.store(this.#control, Control.LOG_COUNT, count + 1);
      Atomics.compareExchange(this.#control, Control.UNFLUSHED, Unflushed.NOTHING, Unflushed.REMEMBERED);
      return true;
    } finally {
      unlock(this.#control, Control.LOG);
    }
  }

  /** Can a flush be done by a record now? Nothing that was changed since the last flush is missing in what is remembered. */
  get isComplete(): boolean {
    return Atomics.load(this.#control, Control.UNFLUSHED) !== Unflushed.OTHER;
  }

  get state(): number {
    return Atomics.load(this.#control, Control.LOG_STATE);
  }

  get hasPending(): boolean {
    return Atomics.load(this.#control, Control.LOG_COUNT) > 0;
  }

  /** Are there records whose data is durable here alone? */
  get isInUse(): boolean {
    return (this.#control[Control.LOG_END] ?? 0) > 0;
  }

  /** The number of the last record. */
  get lastNumber(): number {
    return readLong(this.#control, Control.LOG_NUMBER);
  }

  /** Forgets what is remembered, which a checkpoint covers, together with `work`: no change is half before them. */
  forget<Result>(work: () => Result): Result {
    return withLock(this.#control, Control.LOG, () => {
      this.#control[Control.LOG_FILL] = 0;
      Atomics.store(this.#control, Control.LOG_COUNT, 0);
      return work();
    });
  }

  /** The stamp now says that the log counts. */
  announced(): void {
    Atomics.compareExchange(this.#control, Control.LOG_STATE, LogState.UNANNOUNCED, LogState.READY);
  }

  /** A checkpoint is done: the next record goes to the beginning. */
  done(): void {
    this.#control[Control.LOG_END] = 0;
  }

  /**
   * Takes down what is remembered, durably. Called under the ORDER lock.
   *
   * @returns false where it did not get there: only a checkpoint makes it durable then
   * @throws CowError `io` after an fsync that failed
   */
  flush(): boolean {
    const end = this.#control[Control.LOG_END] ?? 0;
    const bytes = this.#take(this.#place.size - end);
    if (bytes === undefined) return false;
    // Used up in any case: a record that failed may still be on the disk.
    writeLong(this.#control, Control.LOG_NUMBER, this.lastNumber + 1);
    this.#control[Control.LOG_END] = end + bytes.length;
    try {
      this.#journal.write(bytes, this.#place.offset + end);
    } catch {
      Atomics.store(this.#control, Control.LOG_STATE, LogState.UNUSABLE);
      announce(this.#control);
      return false;
    }
    this.#sync();
    return true;
  }

  /** A disk that fails here is not trusted with anything else, as with an fsync of the cowfile. */
  #sync(): void {
    try {
      this.#journal.flush();
    } catch (error) {
      Atomics.compareExchange(this.#control, Control.FAILED, Failure.NONE, Failure.FSYNC);
      announce(this.#control);
      throw error;
    }
  }

  /** @returns the next record, valid until the next call; undefined where it takes more room than there is: it stays remembered then */
  #take(room: number): Uint8Array | undefined {
    let dataBytes = 0;
    const extents = withLock(this.#control, Control.LOG, () => {
      const count = this.#control[Control.LOG_COUNT] ?? 0;
      dataBytes = this.#control[Control.LOG_FILL] ?? 0;
      if (recordBytes(count, dataBytes) > room) return undefined;
      this.#record.set(this.#data.subarray(0, dataBytes), dataOffset(count));
      this.#control[Control.LOG_FILL] = 0;
      Atomics.store(this.#control, Control.LOG_COUNT, 0);
      return Array.from({ length: count }, (_, i) => ({
        offset: this.#extents[2 * i] ?? 0,
        length: this.#extents[2 * i + 1] ?? 0,
      }));
    });
    if (!extents) return undefined;
    const bytes = this.#record.subarray(0, recordBytes(extents.length, dataBytes));
    sealRecord(bytes, { number: this.lastNumber + 1, extents, dataBytes }, this.#nonce);
    return bytes;
  }
}
