/**
 * Owns the transmission phase of one connection: requests in, replies out, independent of what carries the bytes.
 * Answers every complete request in order, and keeps replies back until what they promise is true.
 */

import { Chunk, Command, CommandFlag, WireError } from "../../protocol/constants.ts";
import type { Passage } from "../../stack/live/gate.ts";
import type { LiveImage } from "../../stack/live/image.ts";
import type { Negotiated } from "../handshake/export.ts";
import type { RequestMeter } from "../meter/request-meter.ts";
import { ReadPath } from "../read-path/read-path.ts";
import { answerBlockStatus } from "./block-status.ts";
import { Changes } from "./changes.ts";
import type { Entered } from "./entered.ts";
import { HEAD_BYTES_AT_MOST, type Outbox } from "./outbox.ts";
import { Request, requestBytes } from "./request.ts";
import { requireKnown, requireRange, requireRead, requireWrite } from "./request-rules.ts";
import { offsetOf, Refusal, wireErrorOf, wordsForClient } from "./wire-errors.ts";

/** Replies of this size together are sent at once. */
const SEND_AT_BYTES = 256 * 1024;
/** A payload up to this size is written in one piece, once all of it is there. */
export const WHOLE_PAYLOAD_BYTES = 1 << 20;
/** Larger ones are written as they come, in multiples of this. */
const PIECE_BYTES = 64 * 1024;

/** A payload of which not all has come yet, or which is to be skipped. */
interface Payload {
  readonly request: Request;
  offset: number;
  left: number;
  failure: unknown;
}

export class Transmission {
  /** The client disconnected, or broke the protocol: nothing more is to be read. */
  isOver = false;
  /** Above 0 where the next request has to wait for the export's limit: in milliseconds. Then call consume(). */
  waitMs = 0;
  readonly #image: LiveImage;
  readonly #passage: Passage;
  readonly #outbox: Outbox;
  readonly #negotiated: Negotiated;
  readonly #headBytes: number;
  readonly #structured: boolean;
  readonly #reads: ReadPath;
  readonly #meter: RequestMeter;
  readonly #changes: Changes;
  readonly #request = new Request();
  /** Has another request arrived behind this one? */
  #hasMore = false;
  #payload: Payload | undefined;

  constructor(entered: Entered, negotiated: Negotiated, outbox: Outbox, meter: RequestMeter) {
    const { image, passage } = entered;
    this.#meter = meter;
    this.#passage = passage;
    this.#changes = new Changes(entered, meter);
    this.#image = image;
    this.#outbox = outbox;
    this.#negotiated = negotiated;
    this.#headBytes = requestBytes(negotiated.extendedHeaders);
    this.#structured = negotiated.structuredReplies || negotiated.extendedHeaders;
    outbox.extended = negotiated.extendedHeaders;
    this.#reads = new ReadPath({ image, outbox, structured: this.#structured, send: () => this.#sendSome() });
  }

  /** Reads that wait for a disk: call answerWaiting() when there is no other input. */
  get waiting(): number {
    return this.#reads.queued;
  }

  /** Answers some of the reads that wait. */
  answerWaiting(): void {
    for (const request of this.#reads.takeQueued()) this.#answer(request, "copy");
  }

  /** How many bytes consume() needs to continue. */
  get wanted(): number {
    const { left = 0 } = this.#payload ?? {};
    return this.#payload ? Math.min(left, WHOLE_PAYLOAD_BYTES) : this.#headBytes;
  }

  /**
   * Processes the input, after the connection has entered; replies are in the outbox, or sent already.
   *
   * @returns how many bytes were used; the caller gives the rest again, followed by more
   */
  consume(input: Uint8Array): number {
    const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
    this.#image.lookAtFiles(this.#meter.begunNs);
    const { isLimited } = this.#meter;
    /** The first request is the one that waited. */
    let isAgain = this.waitMs > 0;
    this.waitMs = 0;
    let at = 0;
    while (!this.isOver && !this.#outbox.isBlocked()) {
      if (this.#payload) {
        const used = this.#takePayload(input, at, this.#payload);
        if (used === 0) break;
        at += used;
        continue;
      }
      if (input.length - at < this.#headBytes) break;
      if (!this.#request.decode(view, at, this.#negotiated.extendedHeaders)) {
        this.isOver = true;
        break;
      }
      if (isLimited) this.waitMs = this.#meter.waitOf(this.#request, isAgain);
      isAgain = false;
      if (this.waitMs > 0) break;
      this.#request.arrivedNs = this.#meter.arrivedNs;
      at += this.#headBytes;
      this.#hasMore = input.length - at >= this.#headBytes;
      at += this.#begin(this.#request, input, at);
      if (this.#outbox.pending >= SEND_AT_BYTES) this.#sendSome();
    }
    return at;
  }

  /** Sends the replies in the middle of a batch, which may go on with other parts of the stack. */
  #sendSome(): void {
    this.send();
    this.#passage.goOn();
  }

  /** Sends the replies, after making their promises true. No gate waits for a slow client: from then on nothing is changed. */
  send(): void {
    this.#reads.beginFetching();
    this.#image.commit();
    if (this.#image.failed) throw new Error("what was written could not be kept");
    if (this.#outbox.pending === 0) return;
    const settledNs = this.#settle();
    this.#passage.hold();
    if (!this.#reads.send(settledNs, this.#copyAgain)) this.#cutOff();
  }

  /** It has been counted. */
  readonly #copyAgain = (request: Request): void => this.#answer(request, "copy again");

  #settle(): number {
    return this.#meter.settle(this.#image.reads, this.#outbox.errors);
  }

  /** Must be called when the connection has ended. */
  end(): void {
    this.isOver = true;
    this.#reads.end();
    this.#image.commit();
    this.#settle();
  }

  /** @returns how many bytes of a payload were used */
  #begin(request: Request, input: Uint8Array, at: number): number {
    this.#image.reads.begin();
    if (request.type !== Command.WRITE && !this.#hasOtherPayload(request)) {
      this.#answer(request, "perform");
      return 0;
    }
    const { length } = request;
    const failure = this.#refusalOfWrite(request);
    if (failure === undefined && length > 0 && length <= input.length - at) {
      // The common case: all of it is here.
      this.#answerWrite(request, input.subarray(at, at + length));
      return length;
    }
    const copy = new Request();
    copy.copy(request);
    this.#payload = { request: copy, offset: copy.offset, left: length, failure };
    if (length === Number.POSITIVE_INFINITY) this.isOver = true;
    if (length === 0) this.#endPayload(this.#payload);
    return 0;
  }

  #hasOtherPayload({ flags }: Request): boolean {
    return this.#negotiated.extendedHeaders && (flags & CommandFlag.PAYLOAD_LEN) !== 0;
  }

  #refusalOfWrite(request: Request): unknown {
    try {
      requireWrite(request, this.#image, this.#negotiated.extendedHeaders);
      return undefined;
    } catch (error) {
      return error;
    }
  }

  #answerWrite(request: Request, payload: Uint8Array): void {
    this.#makeRoom();
    try {
      this.#changes.write(payload, request.offset);
      this.#changes.honourFua(request);
      this.#done(request);
    } catch (error) {
      this.#fail(request, error);
    }
  }

  /** Uses the available part of a payload; 0 means that there is too little to begin with. */
  #takePayload(input: Uint8Array, at: number, payload: Payload): number {
    const available = Math.min(input.length - at, payload.left);
    let piece = available;
    if (payload.failure === undefined && available < payload.left) {
      // In the middle of a large payload only whole pieces are used, so that no block is copied up for nothing.
      if (payload.left <= WHOLE_PAYLOAD_BYTES || available < PIECE_BYTES) return 0;
      piece -= (payload.offset + piece) % PIECE_BYTES;
      if (piece <= 0) return 0;
    }
    if (piece === 0) return 0;
    if (payload.failure === undefined) {
      try {
        this.#changes.write(input.subarray(at, at + piece), payload.offset);
      } catch (error) {
        payload.failure = error;
      }
    }
    payload.offset += piece;
    payload.left -= piece;
    if (payload.left === 0) this.#endPayload(payload);
    return piece;
  }

  #endPayload({ request, failure }: Payload): void {
    this.#payload = undefined;
    this.#makeRoom();
    try {
      if (failure !== undefined) throw failure;
      this.#changes.honourFua(request);
      this.#done(request);
    } catch (error) {
      this.#fail(request, error);
    }
    if (this.#outbox.pending >= SEND_AT_BYTES) this.#sendSome();
  }

  /** For any reply without data, or for the head of one with data. */
  #makeRoom(): void {
    if (this.#outbox.room < HEAD_BYTES_AT_MOST + 2048) this.#sendSome();
  }

  #answer(request: Request, how: "perform" | "copy" | "copy again"): void {
    this.#makeRoom();
    try {
      if (how === "perform") this.#perform(request);
      else {
        const { errors } = this.#outbox;
        this.#image.reads.begin();
        const isWhole = this.#reads.copy(request);
        if (how === "copy") this.#endRead(request, isWhole, errors);
        else if (!isWhole) this.#cutOff();
      }
    } catch (error) {
      this.#fail(request, error);
    }
  }

  #fail(request: Request, error: unknown): void {
    // Replies in the outbox may promise data that was lost. Without a reply, the client does not rely on it.
    if (this.#image.failed) throw error;
    const number = wireErrorOf(error);
    if (this.#structured) this.#outbox.error(request, number, wordsForClient(error), offsetOf(error));
    else this.#outbox.simple(request, number);
  }

  #done(request: Request): void {
    this.#meter.answered(request);
    if (this.#negotiated.extendedHeaders) this.#outbox.chunk(request, Chunk.NONE, 0, true);
    else this.#outbox.simple(request, WireError.NONE);
  }

  #perform(request: Request): void {
    if (request.type === Command.DISC) {
      this.isOver = true;
      return;
    }
    requireKnown(request, this.#structured);
    switch (request.type) {
      case Command.READ:
        this.#read(request);
        return;
      case Command.BLOCK_STATUS:
        this.#blockStatus(request);
        return;
      default:
        this.#changes.perform(request);
        this.#done(request);
    }
  }

  #read(request: Request): void {
    requireRead(request, this.#image);
    const { errors } = this.#outbox;
    const way = this.#reads.answer(request, !this.#hasMore);
    if (way !== "queued") this.#endRead(request, way === "sent" || this.#reads.wait(request), errors);
  }

  /** @param errors as before its answer, which may end with one */
  #endRead(request: Request, isWhole: boolean, errors: number): void {
    if (!isWhole) this.#cutOff();
    else if (this.#outbox.errors === errors) this.#meter.answered(request);
  }

  /** A simple reply had promised data that can't be read: only the end of the connection tells the client. */
  #cutOff(): void {
    this.#outbox.errors++;
    this.isOver = true;
  }

  #blockStatus(request: Request): void {
    requireRange(request, this.#image, WireError.EINVAL);
    if (request.length === 0) throw new Refusal(WireError.EINVAL, "BLOCK_STATUS of nothing");
    if (this.#negotiated.contexts.length === 0)
      throw new Refusal(WireError.EINVAL, "no meta context was agreed on for this export");
    answerBlockStatus(this.#image, this.#outbox, request, this.#negotiated, () => this.#sendSome());
  }
}
