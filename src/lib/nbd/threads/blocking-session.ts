/**
 * Owns a connection in a thread of its own: a loop of receive, work, send on a socket that blocks. Fast, because a batch of
 * requests costs one receive and one send, and nothing goes through an event loop.
 */
import * as fs from "node:fs";
import { hasHungUp } from "../../device/sys/hang-up.ts";
import { Receiver } from "../../device/sys/socket.ts";
import { errnoName } from "../../errors.ts";
import type { Negotiated } from "../handshake/export.ts";
import { RequestMeter } from "../meter/request-meter.ts";
import type { PassedMeter } from "../meter/slot.ts";
import { GatherList } from "../read-path/gather-list.ts";
import type { Entered } from "../transmission/entered.ts";
import { OUTBOX_BYTES, Outbox } from "../transmission/outbox.ts";
import { Transmission, WHOLE_PAYLOAD_BYTES } from "../transmission/transmission.ts";

/** Space for a whole payload, its request, and what follows. */
const INBOX_BYTES = WHOLE_PAYLOAD_BYTES + 256 * 1024;
/** The rest is moved to the front if it is little or beyond this, to stay in the processor's cache. */
const CHEAP_BYTES = 16 * 1024;
const HOT_BYTES = 384 * 1024;
/** Polls before the thread sleeps: the next request of a busy client comes within microseconds. */
const SPINS = 100;

/** Places in the memory that all connections share. */
export const Busy = { CONNECTIONS: 0, MAY_SPIN_UP_TO: 1, LENGTH: 2 } as const;

/** The buffers of one thread, for one connection after the other. */
export class BlockingSession {
  readonly #inbox = new Uint8Array(INBOX_BYTES);
  readonly #busy: Int32Array;
  #fd = -1;
  readonly #replies = new ArrayBuffer(OUTBOX_BYTES);
  readonly #gatherList = GatherList.of(this.#replies);
  readonly #outbox = new Outbox((bytes) => sendAll(this.#fd, bytes), this.#replies, this.#gatherList);

  constructor(busy: SharedArrayBuffer) {
    this.#busy = new Int32Array(busy);
  }

  /**
   * Serves until the client leaves or the connection breaks. The caller closes the socket.
   *
   * @param rest what came behind the handshake
   * @param memory counts it
   * @throws CowError where what was written could not be kept; the client has had no reply to it
   */
  run(fd: number, entered: Entered, negotiated: Negotiated, rest: Uint8Array, memory: PassedMeter): void {
    this.#fd = fd;
    if (this.#gatherList) this.#gatherList.fd = fd;
    this.#outbox.clear();
    const meter = new RequestMeter(memory);
    const { passage } = entered;
    const transmission = new Transmission(entered, negotiated, this.#outbox, meter);
    const receiver = new Receiver(fd, this.#inbox);
    this.#inbox.set(rest);
    let [start, end] = [0, rest.length];
    try {
      for (;;) {
        passage.enter();
        start += transmission.consume(this.#inbox.subarray(start, end));
        sendWhatIsReady(transmission);
        // Data of queued reads may be on its way from a file.
        if (transmission.waiting > 0) passage.hold();
        else passage.leave();
        if (transmission.isOver) return;
        if (transmission.waitMs > 0) {
          meter.sleep(transmission.waitMs, () => hasHungUp(fd));
          continue;
        }
        if (start === end) start = end = 0;
        else if (start > 0 && (end - start <= CHEAP_BYTES || end >= HOT_BYTES)) {
          this.#inbox.copyWithin(0, start, end);
          end -= start;
          start = 0;
        }
        const got = transmission.waiting > 0 ? receiver.now(end) : this.#receive(receiver, end);
        if (got > 0) {
          end += got;
          meter.received();
        } else if (transmission.waiting > 0) {
          passage.goOn();
          transmission.answerWaiting();
        } else return;
      }
    } catch (error) {
      // A client that has gone is no failure of ours.
      if (!isBroken(error)) throw error;
    } finally {
      try {
        transmission.end();
      } finally {
        passage.leave();
      }
    }
  }

  #receive(receiver: Receiver, at: number): number {
    const busy = Atomics.load(this.#busy, Busy.CONNECTIONS);
    // With more connections than processors, polling would take time from those with work.
    if (busy <= (this.#busy[Busy.MAY_SPIN_UP_TO] ?? 0)) {
      for (let spin = 0; spin < SPINS; spin++) {
        const got = receiver.now(at);
        if (got >= 0) return got;
      }
    }
    for (;;) {
      try {
        return receiver.wait(at);
      } catch (error) {
        if (errnoName(error) !== "EINTR") throw error;
      }
    }
  }
}

/** Sends the replies; before the end, and before a wait for the limit, also those of reads that are queued. */
function sendWhatIsReady(transmission: Transmission): void {
  const isLast = transmission.isOver || transmission.waitMs > 0;
  while (isLast && transmission.waiting > 0) transmission.answerWaiting();
  transmission.send();
}

const BROKEN = new Set(["ECONNRESET", "EPIPE", "ETIMEDOUT", "ENOTCONN", "EHOSTUNREACH", "ENETUNREACH", "ECONNABORTED"]);

function isBroken(error: unknown): boolean {
  return BROKEN.has(errnoName(error) ?? "");
}

function sendAll(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    try {
      done += fs.writeSync(fd, bytes, done, bytes.length - done);
    } catch (error) {
      if (errnoName(error) !== "EINTR") throw error;
    }
  }
}
