/**
 * Owns the transmission phase of one connection: requests in, replies out, whatever carries the bytes. Takes input as it
 * comes, answers every complete request in order, and keeps replies back until what they promise is true.
 */
import type { LiveImage } from "../overlay/live/image.ts";
import { Chunk, Command, CommandFlag, MAX_PAYLOAD_BYTES, WireError } from "../protocol/constants.ts";
import { answerBlockStatus } from "./block-status.ts";
import type { Negotiated } from "./export.ts";
import { HEAD_BYTES_AT_MOST, OUTBOX_BYTES, type Outbox } from "./outbox.ts";
import { answerRead } from "./read-reply.ts";
import { Request, requestBytes } from "./request.ts";
import { offsetOf, Refusal, wireErrorOf, wordsOf } from "./wire-errors.ts";

/** Replies that are this large together go out, whatever else waits. */
const SEND_AT_BYTES = 256 * 1024;
/** A payload up to this size is written in one piece, once all of it is there. */
export const WHOLE_PAYLOAD_BYTES = 1 << 20;
/** Larger ones are written as they come, in multiples of this. */
const PIECE_BYTES = 64 * 1024;

/** Flags that each command takes, without those that need extended headers. FUA is taken everywhere. */
const FLAGS: Readonly<Record<number, number>> = {
  [Command.READ]: CommandFlag.FUA | CommandFlag.DF,
  [Command.WRITE]: CommandFlag.FUA,
  [Command.FLUSH]: CommandFlag.FUA,
  [Command.TRIM]: CommandFlag.FUA,
  [Command.CACHE]: CommandFlag.FUA,
  [Command.WRITE_ZEROES]: CommandFlag.FUA | CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO,
  [Command.BLOCK_STATUS]: CommandFlag.FUA | CommandFlag.REQ_ONE,
};

/** A payload of which not all has come yet, or which nobody wants. */
interface Payload {
  readonly request: Request;
  offset: number;
  left: number;
  failure: unknown;
}

export class Transmission {
  /** The client said goodbye, or nonsense: nothing more is to be read. */
  isOver = false;
  readonly #image: LiveImage;
  readonly #outbox: Outbox;
  readonly #negotiated: Negotiated;
  readonly #headBytes: number;
  readonly #structured: boolean;
  readonly #request = new Request();
  #payload: Payload | undefined;

  constructor(image: LiveImage, negotiated: Negotiated, outbox: Outbox) {
    this.#image = image;
    this.#outbox = outbox;
    this.#negotiated = negotiated;
    this.#headBytes = requestBytes(negotiated.extendedHeaders);
    this.#structured = negotiated.structuredReplies || negotiated.extendedHeaders;
    outbox.extended = negotiated.extendedHeaders;
  }

  /** How much must be there before consume() can go on. */
  get wanted(): number {
    const { left = 0 } = this.#payload ?? {};
    return this.#payload ? Math.min(left, WHOLE_PAYLOAD_BYTES) : this.#headBytes;
  }

  /**
   * Works through the input; replies are in the outbox, or gone already.
   *
   * @returns how many bytes were used; the rest is to be given again, with more behind it
   */
  consume(input: Uint8Array): number {
    const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
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
      at += this.#headBytes;
      this.#begin(this.#request);
      if (this.#outbox.length >= SEND_AT_BYTES) this.send();
    }
    return at;
  }

  /** Sends the replies, once what they say has been made true. */
  send(): void {
    this.#image.commit();
    this.#outbox.flush();
  }

  /** To be called when the connection has ended, however it did. */
  end(): void {
    this.isOver = true;
    this.#image.commit();
  }

  #begin(request: Request): void {
    const hasPayload =
      request.type === Command.WRITE ||
      (this.#negotiated.extendedHeaders && (request.flags & CommandFlag.PAYLOAD_LEN) !== 0);
    if (!hasPayload) {
      this.#answer(request, () => this.#perform(request));
      return;
    }
    let failure: unknown;
    try {
      this.#checkWrite(request);
    } catch (error) {
      failure = error;
    }
    const copy = Object.assign(new Request(), request);
    this.#payload = { request: copy, offset: copy.offset, left: copy.length, failure };
    if (copy.length === Number.POSITIVE_INFINITY) this.isOver = true;
    if (copy.length === 0) this.#endPayload(this.#payload);
  }

  /** Uses what there is of a payload; 0 means that there is too little to begin with. */
  #takePayload(input: Uint8Array, at: number, payload: Payload): number {
    const available = Math.min(input.length - at, payload.left);
    let piece = available;
    if (payload.failure === undefined && available < payload.left) {
      // In the middle of a large payload: whole pieces only, so that no block is copied up for nothing.
      if (payload.left <= WHOLE_PAYLOAD_BYTES || available < PIECE_BYTES) return 0;
      piece -= (payload.offset + piece) % PIECE_BYTES;
      if (piece <= 0) return 0;
    }
    if (piece === 0) return 0;
    if (payload.failure === undefined) {
      try {
        this.#image.write(input.subarray(at, at + piece), payload.offset);
      } catch (error) {
        payload.failure = error;
      }
    }
    payload.offset += piece;
    payload.left -= piece;
    if (payload.left === 0) this.#endPayload(payload);
    return piece;
  }

  #endPayload(payload: Payload): void {
    this.#payload = undefined;
    this.#answer(payload.request, () => {
      if (payload.failure !== undefined) throw payload.failure;
      this.#honourFua(payload.request);
      this.#done(payload.request);
    });
    if (this.#outbox.length >= SEND_AT_BYTES) this.send();
  }

  #answer(request: Request, work: () => void): void {
    // Room for any reply without data, or for the head of one with data.
    if (this.#outbox.room < HEAD_BYTES_AT_MOST + 2048) this.send();
    try {
      work();
    } catch (error) {
      this.#fail(request, error);
    }
  }

  #fail(request: Request, error: unknown): void {
    const number = wireErrorOf(error);
    if (this.#structured) this.#outbox.error(request, number, wordsOf(error), offsetOf(error));
    else this.#outbox.simple(request, number);
  }

  #done(request: Request): void {
    if (this.#negotiated.extendedHeaders) this.#outbox.chunk(request, Chunk.NONE, 0, true);
    else this.#outbox.simple(request, WireError.NONE);
  }

  #perform(request: Request): void {
    if (request.type === Command.DISC) {
      this.isOver = true;
      return;
    }
    this.#checkFlags(request);
    switch (request.type) {
      case Command.READ:
        this.#read(request);
        return;
      case Command.BLOCK_STATUS:
        this.#blockStatus(request);
        return;
      case Command.FLUSH:
        this.#image.flush();
        break;
      case Command.TRIM:
        this.#checkChange(request);
        this.#image.trim(request.offset, request.length);
        break;
      case Command.CACHE:
        this.#checkRange(request, WireError.EINVAL);
        this.#image.cache(request.offset, request.length);
        break;
      case Command.WRITE_ZEROES:
        this.#zero(request);
        break;
    }
    this.#honourFua(request);
    this.#done(request);
  }

  #checkFlags({ type, flags }: Request): void {
    const known = FLAGS[type];
    if (known === undefined) throw new Refusal(WireError.EINVAL, `unknown command ${type}`);
    const unknown = flags & ~known;
    if (unknown !== 0) throw new Refusal(WireError.EINVAL, `command ${type} takes no flag 0x${unknown.toString(16)}`);
    if ((flags & CommandFlag.DF) !== 0 && !this.#structured)
      throw new Refusal(WireError.EINVAL, "DF needs structured replies");
  }

  #checkRange({ offset, length }: Request, beyond: number): void {
    const size = this.#image.sizeBytes;
    if (offset <= size && length <= size - offset) return;
    throw new Refusal(beyond, `the request ends beyond the image, which has ${size} bytes`, Math.min(offset, size));
  }

  #requireWritable(): void {
    if (!this.#image.writable) throw new Refusal(WireError.EPERM, "this export is read-only");
  }

  #checkWrite(request: Request): void {
    if (request.type !== Command.WRITE) throw new Refusal(WireError.EINVAL, `command ${request.type} takes no payload`);
    const { flags } = request;
    const allowed = this.#negotiated.extendedHeaders ? CommandFlag.FUA | CommandFlag.PAYLOAD_LEN : CommandFlag.FUA;
    if ((flags & ~allowed) !== 0)
      throw new Refusal(WireError.EINVAL, `WRITE takes no flag 0x${(flags & ~allowed).toString(16)}`);
    this.#requireWritable();
    if (request.length > MAX_PAYLOAD_BYTES)
      throw new Refusal(WireError.EINVAL, `a WRITE has at most ${MAX_PAYLOAD_BYTES} bytes`);
    this.#checkRange(request, WireError.ENOSPC);
  }

  #checkChange(request: Request): void {
    this.#requireWritable();
    this.#checkRange(request, WireError.EINVAL);
  }

  #zero(request: Request): void {
    this.#requireWritable();
    this.#checkRange(request, WireError.ENOSPC);
    const mayPunch = (request.flags & CommandFlag.NO_HOLE) === 0;
    if ((request.flags & CommandFlag.FAST_ZERO) !== 0 && !(mayPunch && this.#image.zeroesFast))
      throw new Refusal(WireError.ENOTSUP, "zeros would have to be written");
    if (request.length > 0) this.#image.zero(request.offset, request.length, { mayPunch });
  }

  #honourFua({ flags }: Request): void {
    if ((flags & CommandFlag.FUA) !== 0 && this.#image.writable) this.#image.flush();
  }

  #read(request: Request): void {
    this.#checkRange(request, WireError.EINVAL);
    if (request.length > MAX_PAYLOAD_BYTES)
      throw new Refusal(WireError.EINVAL, `a READ asks for at most ${MAX_PAYLOAD_BYTES} bytes`);
    if (this.#outbox.room < Math.min(request.length, OUTBOX_BYTES / 2) + HEAD_BYTES_AT_MOST) this.send();
    if (answerRead(this.#image, this.#outbox, request, this.#structured, () => this.send())) return;
    // A simple reply had promised data that can't be had: only the end of the connection tells the client.
    this.isOver = true;
  }

  #blockStatus(request: Request): void {
    this.#checkRange(request, WireError.EINVAL);
    if (request.length === 0) throw new Refusal(WireError.EINVAL, "BLOCK_STATUS of nothing");
    if (this.#negotiated.contexts.length === 0)
      throw new Refusal(WireError.EINVAL, "no meta context was agreed on for this export");
    answerBlockStatus(this.#image, this.#outbox, request, this.#negotiated, () => this.send());
  }
}
