/**
 * Owns a connection's part of metering, in the thread that serves it: counts what is answered, how long it took, and waits
 * for the export's limit. What a batch adds is gathered here, and put into the connection's slot before its replies go out.
 *
 * The latency of a request is the time from when its first bytes were received to when its reply is handed to send. It
 * includes its wait for the limit, and the receipt of a long payload.
 */
import { Command } from "../../protocol/constants.ts";
import type { LevelReads } from "../../stack/live/level-reads.ts";
import { nowNs } from "./clock.ts";
import { BUCKETS, bucketOf } from "./histogram.ts";
import { Limit, Turn } from "./limit.ts";
import { type PassedMeter, Place, Wake, wake } from "./slot.ts";
import { Touched } from "./touched.ts";
import { Unflushed } from "./unflushed.ts";

/** Requests whose latency is kept, by the order of their histograms. */
export const TIMED: readonly number[] = [Command.READ, Command.WRITE, Command.FLUSH];
/** The place of a command in that order; negative for the others. */
const KIND_OF: readonly number[] = Object.values(Command).map((command) => TIMED.indexOf(command));
/** A request is charged for at most this: a longer one is refused. */
const CHARGED_BYTES_AT_MOST = 32 << 20;
/** While a thread waits, it looks this often whether its client has gone. */
const LOOK_MS = 250;

interface Counted {
  readonly type: number;
  readonly length: number;
  readonly arrivedNs: number;
}

export class RequestMeter {
  /** When the present batch was received. */
  arrivedNs = nowNs();
  /** When its work began or, after a wait, went on. */
  begunNs = this.arrivedNs;
  readonly touched: Touched;
  readonly #memory: PassedMeter;
  readonly #slot: Float64Array;
  readonly #wakes: Int32Array;
  readonly #unflushed: Unflushed;
  readonly #limit: Limit;
  readonly #turn: Turn;
  /** Of the present batch, by command. */
  readonly #counts: number[] = KIND_OF.map(() => 0);
  /** Those commands, each once. */
  readonly #present: number[] = [];
  /** Kind and time of those that came earlier, in turn. */
  readonly #earlier: number[] = [];
  #bytesRead = 0;
  #bytesWritten = 0;
  #changedBytes = 0;
  /** Errors that are in the slot. */
  #errors = 0;
  #seenWake = 0;

  constructor(memory: PassedMeter) {
    this.#memory = memory;
    this.#slot = new Float64Array(memory.slot);
    this.#wakes = new Int32Array(memory.slot, 0, 2);
    this.touched = new Touched(memory.shared);
    this.#unflushed = new Unflushed(memory.shared);
    this.#limit = new Limit(memory.shared);
    this.#turn = new Turn(this.#limit);
  }

  /** Bytes have come. */
  received(): void {
    this.arrivedNs = this.begunNs = nowNs();
  }

  /** What was received is worked on after a wait. */
  resumed(): void {
    this.begunNs = nowNs();
  }

  /** A request was answered, and not with an error. */
  answered({ type, length, arrivedNs }: Counted): void {
    if (arrivedNs === this.arrivedNs) {
      const count = this.#counts[type] ?? 0;
      if (count === 0) this.#present.push(type);
      this.#counts[type] = count + 1;
    } else this.#earlier.push(type, arrivedNs);
    if (type === Command.READ) this.#bytesRead += length;
    else if (type === Command.WRITE) this.#bytesWritten += length;
  }

  /** Data has been changed that no flush has covered. */
  changed(bytes: number): void {
    this.#changedBytes += bytes;
  }

  /** Flushes by `work`, and notes what that covers. */
  flush(work: () => void): void {
    this.#addChanged();
    this.#unflushed.cover(work);
  }

  /**
   * Puts what was gathered into the slot; the replies go out next.
   *
   * @param errors replies with an error so far, of this connection
   * @returns the time
   */
  settle(reads: LevelReads, errors: number): number {
    const now = nowNs();
    const slot = this.#slot;
    for (let type = this.#present.pop(); type !== undefined; type = this.#present.pop()) {
      this.#add(type, this.#counts[type] ?? 0, now - this.arrivedNs);
      this.#counts[type] = 0;
    }
    if (this.#earlier.length > 0) this.#addEarlier(now);
    if (this.#bytesRead > 0) bump(slot, Place.BYTES_READ, this.#bytesRead);
    if (this.#bytesWritten > 0) bump(slot, Place.BYTES_WRITTEN, this.#bytesWritten);
    this.#bytesRead = this.#bytesWritten = 0;
    if (errors !== this.#errors) bump(slot, Place.ERRORS, errors - this.#errors);
    this.#errors = errors;
    for (let level = reads.take(); level >= 0; level = reads.take())
      bump(slot, Math.min(Place.LEVELS + level, slot.length - 1), reads.taken);
    if (this.#changedBytes > 0) this.#addChanged();
    return now;
  }

  #addEarlier(now: number): void {
    for (let i = 0; i < this.#earlier.length; i += 2)
      this.#add(this.#earlier[i] ?? 0, 1, now - (this.#earlier[i + 1] ?? now));
    this.#earlier.length = 0;
  }

  #add(type: number, count: number, latencyNs: number): void {
    bump(this.#slot, Place.COMMANDS + type, count);
    const kind = KIND_OF[type] ?? -1;
    if (kind < 0) return;
    bump(this.#slot, Place.LATENCY_SUMS + kind, latencyNs * count);
    bump(this.#slot, Place.HISTOGRAMS + kind * BUCKETS + bucketOf(latencyNs), count);
  }

  #addChanged(): void {
    if (this.#changedBytes > 0) this.#unflushed.add(this.#changedBytes);
    this.#changedBytes = 0;
  }

  /** Is there a limit now? */
  get isLimited(): boolean {
    return this.#limit.isOn && Atomics.load(this.#wakes, Wake.IS_ENDING) === 0;
  }

  /** @param isAgain it has waited @returns milliseconds that a request has to wait, by sleep() or pause(); ask again then */
  waitOf({ type, length }: Counted, isAgain: boolean): number {
    if (type !== Command.READ && type !== Command.WRITE && type !== Command.TRIM && type !== Command.WRITE_ZEROES)
      return 0;
    this.#seenWake = Atomics.load(this.#wakes, Wake.COUNT);
    const bytes = type === Command.READ || type === Command.WRITE ? Math.min(length, CHARGED_BYTES_AT_MOST) : 0;
    return this.#turn.ask(bytes, isAgain);
  }

  /** Blocks this thread until the time is over, the limit changes or the connection ends. @param hasGone has the client? */
  sleep(milliseconds: number, hasGone: () => boolean): void {
    for (let left = milliseconds; left > 0; left -= LOOK_MS) {
      if (Atomics.wait(this.#wakes, Wake.COUNT, this.#seenWake, Math.min(left, LOOK_MS)) !== "timed-out") break;
      if (left > LOOK_MS && hasGone()) this.release();
    }
    this.resumed();
  }

  /** As sleep(), for a thread that must not block. */
  async pause(milliseconds: number): Promise<void> {
    await Atomics.waitAsync(this.#wakes, Wake.COUNT, this.#seenWake, milliseconds).value;
  }

  /** The connection ends: it no longer waits. */
  release(): void {
    wake(this.#memory.slot, true);
  }
}

function bump(slot: Float64Array, place: number, by: number): void {
  slot[place] = (slot[place] ?? 0) + by;
}
