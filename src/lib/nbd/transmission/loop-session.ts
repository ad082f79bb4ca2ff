/**
 * Owns a connection on the event loop: for TLS, for standard streams, and where sockets can't be given to threads. The
 * work itself blocks the loop.
 */
import type { Duplex } from "node:stream";
import type { Passage } from "../../stack/live/gate.ts";
import type { Negotiated } from "../handshake/export.ts";
import { RequestMeter } from "../meter/request-meter.ts";
import type { PassedMeter } from "../meter/slot.ts";
import type { Entered } from "./entered.ts";
import { OUTBOX_BYTES, Outbox } from "./outbox.ts";
import { Transmission } from "./transmission.ts";

/** Unread replies: above this, no further request is begun. */
const UNSENT_AT_MOST = 4 << 20;

/** What is received while the next request waits for the limit: above this, the rest stays in the socket. */
const HELD_AT_MOST = 256 * 1024;

/** Replies gather here; between two turns of the loop it is empty. */
const sharedOutbox = new ArrayBuffer(OUTBOX_BYTES);

export class LoopSession {
  readonly #stream: Duplex;
  readonly #transmission: Transmission;
  readonly #outbox: Outbox;
  readonly #meter: RequestMeter;
  readonly #passage: Passage;
  /** Received, but not processed. */
  #chunks: Buffer[] = [];
  #bytes = 0;
  /** No more input is taken; received requests are answered. */
  #isEnding = false;
  /** The last reply has been written. */
  #isFinished = false;
  /** The next request waits for the export's limit. */
  #isPausing = false;
  /** The gate is shut: work goes on when it opens. */
  #isOutside = false;
  #hasEnded = false;
  #resolve: () => void = () => undefined;
  #reject: (error: unknown) => void = () => undefined;

  constructor(stream: Duplex, entered: Entered, negotiated: Negotiated, rest: Uint8Array, meter: PassedMeter) {
    this.#stream = stream;
    this.#passage = entered.passage;
    this.#meter = new RequestMeter(meter);
    this.#take(Buffer.from(rest));
    this.#outbox = new Outbox((bytes) => void stream.write(Buffer.from(bytes)), sharedOutbox);
    this.#outbox.isBlocked = () => this.#isBlocked;
    this.#transmission = new Transmission(entered, negotiated, this.#outbox, this.#meter);
  }

  get #isBlocked(): boolean {
    return this.#stream.writableLength > UNSENT_AT_MOST;
  }

  /** Serves until the client leaves. @throws CowError if written data could not be kept */
  run(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      this.#stream.on("data", (chunk: Buffer) => {
        if (this.#isEnding) return;
        if (!this.#isPausing) this.#meter.received();
        else if (this.#bytes > HELD_AT_MOST) this.#stream.pause();
        this.#take(chunk);
        this.#work();
      });
      this.#stream.on("drain", () => this.#resume());
      // The client may close its side and still wait for replies.
      this.#stream.on("end", () => this.finish());
      this.#stream.on("error", () => this.#end());
      this.#stream.on("close", () => this.#end());
      this.#stream.resume();
      this.#work();
    });
  }

  /** Takes no more requests, answers received ones, and ends the connection. */
  finish(): void {
    this.#isEnding = true;
    if (this.#isPausing) this.#meter.release();
    this.#work();
  }

  #take(chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
  }

  #work(): void {
    if (this.#hasEnded || this.#isFinished || this.#isPausing || this.#isOutside) return;
    if (!this.#passage.tryEnter()) {
      void this.#waitOutside();
      return;
    }
    try {
      // Pieces are joined when there are enough bytes: a payload in tiny pieces is not copied for each.
      if (this.#bytes >= this.#transmission.wanted) {
        const input = this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks);
        const used = this.#transmission.consume(input);
        this.#chunks = [];
        this.#bytes = 0;
        this.#take(input.subarray(used));
      }
      while (this.#transmission.waiting > 0) this.#transmission.answerWaiting();
      this.#transmission.send();
      this.#passage.leave();
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (this.#transmission.waitMs > 0) void this.#pause(this.#transmission.waitMs);
    else if (this.#transmission.isOver || (this.#isEnding && !this.#isBlocked)) {
      this.#isFinished = true;
      this.#stream.end(() => this.#end());
    } else if (this.#isBlocked) this.#stream.pause();
    else this.#stream.resume();
  }

  #resume(): void {
    this.#meter.resumed();
    this.#work();
  }

  /** The thread must not block: it may be the one that opens the gate. */
  async #waitOutside(): Promise<void> {
    this.#isOutside = true;
    await this.#passage.opened();
    this.#isOutside = false;
    this.#work();
  }

  /** Other connections of this thread go on meanwhile. The stream is read, so that a client that leaves is noticed. */
  async #pause(milliseconds: number): Promise<void> {
    this.#isPausing = true;
    await this.#meter.pause(milliseconds);
    this.#isPausing = false;
    this.#resume();
  }

  #fail(error: unknown): void {
    this.#hasEnded = true;
    this.#stream.destroy();
    try {
      this.#transmission.end();
    } catch {
      // The first failure is the one to tell.
    }
    this.#passage.leave();
    this.#reject(error);
  }

  #end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#stream.destroy();
    if (this.#isPausing) this.#meter.release();
    try {
      this.#transmission.end();
      this.#resolve();
    } catch (error) {
      this.#reject(error);
    }
  }
}
