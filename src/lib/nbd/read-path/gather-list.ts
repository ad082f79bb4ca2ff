/**
 * Owns the parts of replies that are not in the outbox: data of a mapped file, sent without copying by one gathering
 * write, together with the heads before it.
 */
import { getSystemErrorName } from "node:util";
import { Errno, type Libc, libc } from "../../device/sys/libc.ts";
import { isLittleEndian, put64 } from "../../device/sys/words.ts";
import { Request } from "../transmission/request.ts";

/** The kernel takes 1024 parts at a time: a head and data for each, and what comes last. */
const AT_MOST = 500;
const WORDS_PER_PART = 4;

/** The part that was not sent when mapped data could not be read. */
export type Unsent =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  /** A reply of which nothing has gone out. */
  | { readonly kind: "reply"; readonly request: Request }
  /** Data in the middle of a reply. */
  | { readonly kind: "data"; readonly offset: number; readonly length: number };

interface Reference {
  /** Where in the outbox its head begins, and where it ends: the data follows there. */
  head: number;
  at: number;
  length: number;
  /** Of the data in the image. */
  offset: number;
  /** It is all of the request's data. */
  isWhole: boolean;
  readonly request: Request;
}

export class GatherList {
  /** Where to send to. */
  fd = -1;
  count = 0;
  /** Bytes of data in all. */
  bytes = 0;
  readonly #libc: Libc;
  readonly #outbox: Uint8Array;
  readonly #outboxAddress: number;
  /** struct iovec: address and length, 64 bits each. */
  readonly #parts = new Uint32Array((2 * AT_MOST + 1) * WORDS_PER_PART);
  readonly #partsAddress: number;
  readonly #list: Reference[] = [];
  #partCount = 0;
  /** Bytes of the outbox that are among the parts. */
  #covered = 0;
  #sent = 0;

  private constructor(c: Libc, outbox: ArrayBuffer) {
    this.#libc = c;
    this.#outbox = new Uint8Array(outbox);
    this.#outboxAddress = Number(c.addressOf(outbox));
    this.#partsAddress = Number(c.addressOf(this.#parts.buffer));
  }

  /** Undefined where there are no native calls, and on machines with the other byte order. */
  static of(outbox: ArrayBuffer): GatherList | undefined {
    const c = isLittleEndian ? libc() : null;
    return c ? new GatherList(c, outbox) : undefined;
  }

  get isFull(): boolean {
    return this.count === AT_MOST;
  }

  /**
   * Adds data.
   *
   * @param at the outbox's bytes that go before it
   * @param offset of the data in the image
   */
  add(at: number, address: number, length: number, offset: number): void {
    this.#coverTo(at);
    this.#addPart(address, length);
    const known = this.#list[this.count];
    if (known) {
      known.at = at;
      known.length = length;
      known.offset = offset;
      known.isWhole = false;
    } else this.#list.push({ head: at, at, length, offset, isWhole: false, request: new Request() });
    this.count++;
    this.bytes += length;
  }

  /** Records that the last data is all of a reply. @param head where that begins in the outbox */
  noteWhole(request: Request, head: number): void {
    const last = this.#list[this.count - 1];
    if (!last) return;
    last.head = head;
    last.isWhole = true;
    last.request.copy(request);
  }

  forget(): void {
    this.count = 0;
    this.bytes = 0;
    this.#partCount = 0;
    this.#covered = 0;
    this.#sent = 0;
  }

  /**
   * Sends everything. Blocks.
   *
   * @param length bytes in the outbox
   * @returns false where data can't be read; unsent() is what is left then
   * @throws a system error where the connection is broken
   */
  send(length: number): boolean {
    this.#coverTo(length);
    const all = length + this.bytes;
    let first = 0;
    for (;;) {
      const put = this.#libc.writev(this.fd, this.#partsAddress + first * 16, this.#partCount - first);
      if (put < 0) {
        const errno = this.#libc.errno();
        if (errno === Errno.EFAULT) return false;
        if (errno !== Errno.EINTR) throw brokenBy(errno);
        continue;
      }
      this.#sent += put;
      if (this.#sent === all) return true;
      first = this.#skip(first, put);
    }
  }

  /** Removes sent bytes from the parts. @returns the first part that is left */
  #skip(first: number, bytes: number): number {
    const parts = this.#parts;
    let part = first;
    for (let left = bytes; ; part++) {
      const at = part * WORDS_PER_PART;
      const length = parts[at + 2] ?? 0;
      if (left < length) {
        const address = (parts[at + 1] ?? 0) * 2 ** 32 + (parts[at] ?? 0) + left;
        this.#setPart(part, address, length - left);
        return part;
      }
      left -= length;
    }
  }

  #coverTo(at: number): void {
    if (at > this.#covered) this.#addPart(this.#outboxAddress + this.#covered, at - this.#covered);
    this.#covered = at;
  }

  #addPart(address: number, length: number): void {
    this.#setPart(this.#partCount++, address, length);
  }

  #setPart(part: number, address: number, length: number): void {
    const at = part * WORDS_PER_PART;
    put64(this.#parts, at, address);
    put64(this.#parts, at + 2, length);
  }

  /** What send() did not send, in order. The outbox may be used again. */
  unsent(length: number): Unsent[] {
    const bytes = this.#outbox.slice(0, length);
    const unsent: Unsent[] = [];
    /** The positions in the outbox and in the stream. */
    let [at, position] = [0, 0];
    const passBytes = (to: number): void => {
      const from = at + Math.min(to - at, Math.max(0, this.#sent - position));
      if (from < to) unsent.push({ kind: "bytes", bytes: bytes.subarray(from, to) });
      position += to - at;
      at = to;
    };
    for (const reference of this.#list.slice(0, this.count)) {
      const { request, head, offset } = reference;
      const isUntouched = reference.isWhole && this.#sent <= position + head - at;
      passBytes(isUntouched ? head : reference.at);
      if (isUntouched) {
        const copy = new Request();
        copy.copy(request);
        unsent.push({ kind: "reply", request: copy });
        position += reference.at - at;
        at = reference.at;
      } else {
        const gone = Math.min(reference.length, Math.max(0, this.#sent - position));
        if (gone < reference.length)
          unsent.push({ kind: "data", offset: offset + gone, length: reference.length - gone });
      }
      position += reference.length;
    }
    passBytes(length);
    return unsent;
  }
}

function brokenBy(errno: number): Error {
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`cannot send: ${code}`), { code });
}
