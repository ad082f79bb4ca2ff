/**
 * Owns the buffer in which replies gather, and their encoding: simple replies, structured chunks, extended chunks.
 * The owner of the connection empties it.
 */
import { Chunk, ChunkFlag, Magic } from "../../protocol/constants.ts";
import type { GatherList, Unsent } from "../read-path/gather-list.ts";
import type { Asked, Request } from "./request.ts";

/** Space for many small replies, or for a good part of a large one. */
export const OUTBOX_BYTES = 1 << 20;
const SIMPLE_BYTES = 16;
const STRUCTURED_BYTES = 20;
const EXTENDED_BYTES = 32;
/** The longest head before data: an extended chunk's, and the offset of the data. */
export const HEAD_BYTES_AT_MOST = EXTENDED_BYTES + 8;

const NOTHING: readonly Unsent[] = [];

export class Outbox {
  readonly bytes: Uint8Array;
  /** Bytes that wait to be sent. */
  length = 0;
  /** Chunks carry 64-bit lengths. */
  extended = false;
  /** Replies with an error so far. */
  errors = 0;
  /** Are there more replies than the client reads? Then no further request is begun. */
  isBlocked: () => boolean = () => false;
  readonly #gatherList: GatherList | undefined;
  readonly #view: DataView;
  readonly #send: (bytes: Uint8Array) => void;

  /**
   * @param send must take the bytes before it returns: the buffer is reused
   * @param buffer OUTBOX_BYTES; connections that take turns on one thread may share it, as it is empty between turns
   * @param gatherList sends mapped data without copying, if possible; of the same buffer
   */
  constructor(
    send: (bytes: Uint8Array) => void,
    buffer: ArrayBuffer = new ArrayBuffer(OUTBOX_BYTES),
    gatherList?: GatherList,
  ) {
    this.bytes = new Uint8Array(buffer);
    this.#view = new DataView(buffer);
    this.#send = send;
    this.#gatherList = gatherList;
  }

  /** Can mapped data be sent without copying? */
  get canGather(): boolean {
    return this.#gatherList !== undefined;
  }

  /** @returns the data that could not be sent, because gathered data could not be read; the outbox is empty then */
  flush(): readonly Unsent[] {
    const { length } = this;
    const gatherList = this.#gatherList;
    if (this.pending === 0) return NOTHING;
    this.length = 0;
    if (!gatherList || gatherList.count === 0) {
      this.#send(this.bytes.subarray(0, length));
      return NOTHING;
    }
    const unsent = gatherList.send(length) ? NOTHING : gatherList.unsent(length);
    gatherList.forget();
    return unsent;
  }

  /** Forgets everything. */
  clear(): void {
    this.length = 0;
    this.errors = 0;
    this.#gatherList?.forget();
  }

  /** Bytes to be sent, including gathered data. */
  get pending(): number {
    return this.length + (this.#gatherList?.bytes ?? 0);
  }

  get room(): number {
    return this.#gatherList?.isFull ? 0 : OUTBOX_BYTES - this.length;
  }

  /**
   * Adds data that is sent from its mapping without copying; there must be room.
   * @param offset of the data in the image
   */
  gather(address: number, length: number, offset: number): void {
    this.#gatherList?.add(this.length, address, length, offset);
  }

  /** Records that the last gathered data is all of a reply. @param head where the reply begins */
  noteWhole(request: Request, head: number): void {
    this.#gatherList?.noteWhole(request, head);
  }

  /** A part of the buffer to be filled by the caller; there must be room. */
  take(length: number): Uint8Array {
    const part = this.bytes.subarray(this.length, this.length + length);
    this.length += length;
    return part;
  }

  simple(asked: Asked, error: number): void {
    if (error !== 0) this.errors++;
    const view = this.#view;
    const at = this.length;
    view.setUint32(at, Magic.SIMPLE_REPLY);
    view.setUint32(at + 4, error);
    view.setUint32(at + 8, asked.cookieHigh);
    view.setUint32(at + 12, asked.cookieLow);
    this.length = at + SIMPLE_BYTES;
  }

  /** The head of a chunk with `payload` bytes behind it. */
  chunk(asked: Asked, type: number, payload: number, isLast: boolean): void {
    const view = this.#view;
    const at = this.length;
    view.setUint32(at, this.extended ? Magic.EXTENDED_REPLY : Magic.STRUCTURED_REPLY);
    view.setUint16(at + 4, isLast ? ChunkFlag.DONE : 0);
    view.setUint16(at + 6, type);
    view.setUint32(at + 8, asked.cookieHigh);
    view.setUint32(at + 12, asked.cookieLow);
    if (!this.extended) {
      view.setUint32(at + 16, payload);
      this.length = at + STRUCTURED_BYTES;
      return;
    }
    view.setUint32(at + 16, asked.offsetHigh);
    view.setUint32(at + 20, asked.offsetLow);
    view.setUint32(at + 24, 0);
    view.setUint32(at + 28, payload);
    this.length = at + EXTENDED_BYTES;
  }

  u16(value: number): void {
    this.#view.setUint16(this.length, value);
    this.length += 2;
  }

  u32(value: number): void {
    this.#view.setUint32(this.length, value);
    this.length += 4;
  }

  u64(value: number): void {
    this.#view.setUint32(this.length, Math.floor(value / 2 ** 32));
    this.#view.setUint32(this.length + 4, value >>> 0);
    this.length += 8;
  }

  /** An error chunk with a text for people, and where in the image it happened, if that is known. */
  error(asked: Asked, error: number, text: string, offset: number | undefined): void {
    this.errors++;
    // Cut between characters, however long the text.
    const words = Buffer.from(
      Buffer.from(text)
        .subarray(0, 1024)
        .toString("utf8")
        .replace(/\ufffd+$/, ""),
    );
    const payload = 6 + words.length + (offset === undefined ? 0 : 8);
    this.chunk(asked, offset === undefined ? Chunk.ERROR : Chunk.ERROR_OFFSET, payload, true);
    this.u32(error);
    this.u16(words.length);
    this.take(words.length).set(words);
    if (offset !== undefined) this.u64(offset);
  }
}
