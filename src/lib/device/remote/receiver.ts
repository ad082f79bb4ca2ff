/**
 * Owns parsing replies as their bytes arrive: which request each belongs to, and whether it is valid. READ data goes
 * straight to its place; all other bytes that a server makes us collect are bounded. Must not know sockets.
 */
import {
  decodeErrorChunk,
  decodeReplyHead,
  decodeStatus,
  isErrorChunk,
  payloadLimit,
  type ReplyHead,
  replyHeadBytes,
  SIMPLE_REPLY_BYTES,
  type StatusExtent,
  type WireFailure,
} from "../../protocol/client-requests.ts";
import { Chunk, Command, WireError } from "../../protocol/constants.ts";
import { readNumber64, violated } from "../../protocol/wire-violation.ts";

/** Where the data of a READ goes; `at` counts from the beginning of the request. */
export interface ReadSink {
  put(at: number, bytes: Uint8Array): void;
  zero(at: number, length: number): void;
}

/** A request that waits for its reply, and its results so far. */
export interface Pending {
  readonly command: number;
  readonly offset: number;
  readonly length: number;
  /** Of a READ only. */
  readonly sink: ReadSink | undefined;
  /** Bytes of data and holes that came. */
  gotBytes: number;
  /** Chunks without data; few are needed. */
  remarks: number;
  failure: WireFailure | undefined;
  readonly status: Map<number, readonly StatusExtent[]>;
}

export interface Agreement {
  readonly structured: boolean;
  readonly extended: boolean;
  /** Does the server report on a context of this number? */
  knowsContext(id: number): boolean;
}

const MOST_REMARKS = 64;
const OFFSET_BYTES = 8;
const NOTHING = Buffer.alloc(0);

/** The part that is being collected, or copied. */
type Expecting = "head" | "rest of the head" | "offset" | "payload" | "data";

export class Receiver {
  readonly #agreement: Agreement;
  readonly #find: (cookie: bigint) => Pending | undefined;
  readonly #done: (cookie: bigint, pending: Pending) => void;
  #expecting: Expecting = "head";
  #neededBytes = SIMPLE_REPLY_BYTES;
  /** Bytes of that part from earlier pieces. */
  #kept: Buffer = NOTHING;
  #head: ReplyHead | undefined;
  #pending: Pending | undefined;
  /** Where in the request the arriving data goes. */
  #dataAt = 0;

  /**
   * @param find the request that a reply answers; undefined if there is none
   * @param done receives each request whose last chunk came
   */
  constructor(
    agreement: Agreement,
    find: (cookie: bigint) => Pending | undefined,
    done: (cookie: bigint, pending: Pending) => void,
  ) {
    this.#agreement = agreement;
    this.#find = find;
    this.#done = done;
  }

  /** Takes received bytes. @throws WireViolation: the connection is of no use any more */
  feed(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      if (this.#expecting === "data") {
        const piece = bytes.subarray(at, at + this.#neededBytes);
        this.#takeData(piece);
        at += piece.length;
        continue;
      }
      const missing = this.#neededBytes - this.#kept.length;
      const piece = bytes.subarray(at, at + missing);
      at += piece.length;
      if (piece.length < missing) {
        this.#kept = Buffer.concat([this.#kept, piece]);
        return;
      }
      const whole = this.#kept.length === 0 ? piece : Buffer.concat([this.#kept, piece]);
      this.#kept = NOTHING;
      this.#take(whole);
    }
  }

  #expect(what: Expecting, bytes: number): void {
    this.#expecting = what;
    this.#neededBytes = bytes;
  }

  /** Takes the collected part. */
  #take(bytes: Buffer): void {
    if (this.#expecting === "head") this.#takeFirst(bytes);
    else if (this.#expecting === "rest of the head") this.#takeHead(bytes);
    else if (this.#expecting === "offset") this.#takeOffset(bytes);
    else this.#takePayload(bytes);
  }

  #takeFirst(bytes: Buffer): void {
    const headBytes = replyHeadBytes(bytes, this.#agreement);
    if (headBytes === bytes.length) {
      this.#takeHead(bytes);
      return;
    }
    this.#kept = Buffer.from(bytes);
    this.#expect("rest of the head", headBytes);
  }

  #takeHead(bytes: Buffer): void {
    const head = decodeReplyHead(bytes);
    const pending = this.#find(head.cookie) ?? violated("it answers a request that was not made");
    this.#head = head;
    this.#pending = pending;
    if (head.simpleError !== undefined) this.#takeSimple(head.simpleError, pending);
    else if (head.type === Chunk.OFFSET_DATA) {
      if (!pending.sink || head.payloadBytes <= OFFSET_BYTES) violated("a chunk of data that has no place");
      this.#expect("offset", OFFSET_BYTES);
    } else {
      if (head.type !== Chunk.OFFSET_HOLE && ++pending.remarks > MOST_REMARKS) violated("a reply that never ends");
      if (head.payloadBytes > payloadLimit(head.type))
        violated(`a chunk of type ${head.type} and ${head.payloadBytes} bytes`);
      if (head.payloadBytes === 0) this.#takePayload(NOTHING);
      else this.#expect("payload", head.payloadBytes);
    }
  }

  #takeSimple(error: number, pending: Pending): void {
    if (pending.sink && this.#agreement.structured)
      violated("a simple reply to a READ, although structured ones were agreed on");
    if (error === 0 && pending.sink) {
      this.#dataAt = 0;
      this.#expect("data", pending.length);
      return;
    }
    if (error !== 0) pending.failure = { error, message: "", offset: undefined };
    this.#finishChunk();
  }

  /** The place of a chunk of data or of a hole. */
  #place(offset: number, length: number, pending: Pending): number {
    const at = offset - pending.offset;
    pending.gotBytes += length;
    if (at < 0 || at + length > pending.length) violated("data from outside of what was asked for");
    if (pending.gotBytes > pending.length) violated("more data than was asked for");
    return at;
  }

  #takeOffset(bytes: Buffer): void {
    const { head, pending } = this.#current();
    const length = head.payloadBytes - OFFSET_BYTES;
    this.#dataAt = this.#place(readNumber64(bytes, 0, "the offset of data"), length, pending);
    this.#expect("data", length);
  }

  #takeData(bytes: Buffer): void {
    const { head, pending } = this.#current();
    pending.sink?.put(this.#dataAt, bytes);
    this.#dataAt += bytes.length;
    this.#neededBytes -= bytes.length;
    if (this.#neededBytes > 0) return;
    if (head.simpleError !== undefined) pending.gotBytes = pending.length;
    this.#finishChunk();
  }

  #takePayload(bytes: Buffer): void {
    const { head, pending } = this.#current();
    if (isErrorChunk(head.type)) pending.failure ??= decodeErrorChunk(head.type, bytes);
    else if (head.type === Chunk.OFFSET_HOLE) this.#takeHole(bytes, pending);
    else if (head.type !== Chunk.NONE) this.#takeStatus(head.type, bytes, pending);
    else if (!head.isLast) violated("an empty chunk that is not the last");
    this.#finishChunk();
  }

  #takeHole(bytes: Buffer, pending: Pending): void {
    if (!pending.sink || bytes.length !== 12) violated("a hole that has no place");
    const length = bytes.readUInt32BE(8) || violated("a hole without a length");
    const at = this.#place(readNumber64(bytes, 0, "the offset of a hole"), length, pending);
    pending.sink?.zero(at, length);
  }

  #takeStatus(type: number, bytes: Buffer, pending: Pending): void {
    const expected = this.#agreement.extended ? Chunk.BLOCK_STATUS_EXT : Chunk.BLOCK_STATUS;
    if (type !== expected || pending.command !== Command.BLOCK_STATUS) violated(`a chunk of type ${type}`);
    const { id, extents } = decodeStatus(type, bytes);
    if (!this.#agreement.knowsContext(id) || pending.status.has(id))
      violated("the status of a context that was not asked for");
    pending.status.set(id, extents);
  }

  #finishChunk(): void {
    const { head, pending } = this.#current();
    this.#head = undefined;
    this.#pending = undefined;
    this.#expect("head", SIMPLE_REPLY_BYTES);
    if (!head.isLast) return;
    if (!pending.failure && pending.sink && pending.gotBytes < pending.length) violated("less data than was asked for");
    this.#done(head.cookie, pending);
  }

  #current(): { readonly head: ReplyHead; readonly pending: Pending } {
    if (!this.#head || !this.#pending) throw new Error("assertion failed: no chunk is being received");
    return { head: this.#head, pending: this.#pending };
  }
}

/** The error number of a server that shuts down: the next connection may work. */
export function isShutdown(failure: WireFailure): boolean {
  return failure.error === WireError.ESHUTDOWN;
}
