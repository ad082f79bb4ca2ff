/**
 * Owns the caller's side of the shared memory: it starts the helper thread, calls, and blocks until there is an answer.
 * Must not wait for ever, whatever becomes of the thread.
 */

import { Worker } from "node:worker_threads";
import type { Shared } from "../../bytes/shared.ts";
import { CowError } from "../../errors.ts";
import type { Failure, HelperData } from "./helper.ts";
import type { Remembered } from "./sameness.ts";
import type { RemoteLimits } from "./session.ts";
import {
  announce,
  Call,
  Numbers,
  newSharedMemory,
  Op,
  PIECE_COUNT,
  type SharedMemory,
  Slot,
  takeText,
  Word,
} from "./shared-memory.ts";

/** Polls before sleeping: waking up costs more than many polls, and an answer is often near. */
const LOOKS = 400;
/** Interval for checking that the helper lives. */
const LOOK_MS = 2000;
/** Checks without a pulse after which it is dead; starting may take long on a busy machine. */
const MOST_MISSED = 10;
/** How long closing waits for the disconnect, which continues in the background if the server is slow. */
const GOOD_BYE_MS = 250;

/** Compiled or not, the thread's program is beside this one. */
function helperProgram(): URL {
  const url = new URL("./remote-worker.ts", import.meta.url);
  if (import.meta.url.endsWith(".js")) url.pathname = url.pathname.replace(/\.ts$/, ".js");
  return url;
}

export class Caller {
  readonly memory: SharedMemory = newSharedMemory();
  readonly #name: string;
  readonly #worker: Worker;
  #isEnded = false;

  constructor(name: string, limits: RemoteLimits, remembered: Remembered) {
    this.#name = name;
    const workerData: HelperData = { buffer: this.memory.buffer, name, limits, remembered };
    // Without the flags of this process: threads do not start with some of them, such as a program on the command line.
    this.#worker = new Worker(helperProgram(), { workerData, name: "nbd", execArgv: [] });
    // A program that is done must not wait for a connection.
    this.#worker.unref();
    // Noticed by the missing pulse, or by the answer to a call: nothing handles the event.
    this.#worker.on("error", () => undefined);
  }

  /** Calls and waits. Other arguments and results are in the memory. @throws CowError from the helper */
  call(op: number, offset = 0, length = 0): number {
    const { words, numbers } = this.memory;
    this.#post(op, offset, length);
    const state = this.#settled(words, Word.CALL, Call.DONE);
    words[Word.CALL] = Call.IDLE;
    if (state === Call.DONE) return numbers[Numbers.RESULT] ?? 0;
    const { code, message, ...rest } = takeText(this.memory) as Failure;
    throw new CowError(code ?? "io", message ?? "the helper thread failed", { ...rest, file: rest.file ?? this.#name });
  }

  /** Requests pieces; their slots, with their offsets set, belong to the helper until they are no longer PENDING. */
  fetch(slots: readonly number[]): void {
    const { words, ring, states } = this.memory;
    let tail = words[Word.RING_TAIL] ?? 0;
    for (const slot of slots) {
      Atomics.store(states, slot, Slot.PENDING);
      ring[tail & (PIECE_COUNT - 1)] = slot;
      tail = (tail + 1) | 0;
    }
    Atomics.store(words, Word.RING_TAIL, tail);
    this.#ring();
  }

  /** Waits for a slot. @returns whether the piece is there */
  waitForPiece(slot: number): boolean {
    return this.#settled(this.memory.states, slot, Slot.READY) === Slot.READY;
  }

  /** Ends the thread, or lets it end itself once the server has answered pending requests and was told. */
  end(): void {
    if (this.#isEnded) return;
    const { words } = this.memory;
    if (Atomics.load(words, Word.ENDED) === 0 && Atomics.load(words, Word.PULSE) > 0) {
      this.#post(Op.CLOSE, 0, 0);
      const until = performance.now() + GOOD_BYE_MS;
      for (let leftMs = GOOD_BYE_MS; leftMs > 0; leftMs = until - performance.now()) {
        const state = Atomics.load(words, Word.CALL);
        if (state >= Call.DONE) break;
        Atomics.wait(words, Word.CALL, state, leftMs);
      }
    } else void this.#worker.terminate();
    this.#isEnded = true;
  }

  #post(op: number, offset: number, length: number): void {
    if (this.#isEnded) throw new Error(`${this.#name} is closed`);
    const { words, numbers } = this.memory;
    numbers[Numbers.OP] = op;
    numbers[Numbers.OFFSET] = offset;
    numbers[Numbers.LENGTH] = length;
    Atomics.store(words, Word.CALL, Call.POSTED);
    this.#ring();
  }

  #ring(): void {
    const { words } = this.memory;
    announce(words, Word.DOORBELL, (Atomics.load(words, Word.DOORBELL) + 1) | 0);
  }

  /** Blocks until `array[index]` is at least `settled`. @returns its value @throws CowError `io` if the helper is dead */
  #settled(array: Shared<Int32Array>, index: number, settled: number): number {
    const { words } = this.memory;
    for (let looks = 0; looks < LOOKS; looks++) {
      const value = Atomics.load(array, index);
      if (value >= settled) return value;
    }
    let missed = 0;
    let pulse = Atomics.load(words, Word.PULSE);
    for (;;) {
      const value = Atomics.load(array, index);
      if (value >= settled) return value;
      if (Atomics.load(words, Word.ENDED) !== 0 || missed > MOST_MISSED)
        throw new CowError("io", "the helper thread that holds the connection is dead", { file: this.#name });
      if (Atomics.wait(array, index, value, LOOK_MS) !== "timed-out") continue;
      const now = Atomics.load(words, Word.PULSE);
      missed = now === pulse ? missed + 1 : 0;
      pulse = now;
    }
  }
}
