/**
 * Owns one connection of a fake server: exact reads, and the frames of the protocol as a server writes them. Its numbers
 * are from the protocol's book, not from the library.
 */
import type { Socket } from "node:net";

export interface FakeRequest {
  readonly flags: number;
  readonly command: number;
  readonly cookie: bigint;
  readonly offset: bigint;
  readonly length: number;
}

export interface FakeExport {
  readonly sizeBytes?: bigint;
  readonly flags?: number;
  readonly structured?: boolean;
  readonly extended?: boolean;
  /** Answered with numbers 7, 8, …; false: contexts are refused. */
  readonly contexts?: readonly string[] | false;
  /** Sent before the ACK of GO, as type and data; instead of size and flags if `only`. */
  readonly infos?: readonly Buffer[];
  readonly only?: boolean;
}

export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: bigint | number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

const ACK = 1;
const UNSUP = 0x8000_0001;
const GREETING = Buffer.from("NBDMAGICIHAVEOPT");

export class Peer {
  readonly socket: Socket;
  readonly #incoming: AsyncIterator<Buffer>;
  #buffered = Buffer.alloc(0);

  constructor(socket: Socket) {
    this.socket = socket;
    this.#incoming = (socket as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  }

  async read(length: number): Promise<Buffer> {
    while (this.#buffered.length < length) {
      const next = await this.#incoming.next();
      if (next.done) throw new Error("the client is gone");
      this.#buffered = Buffer.concat([this.#buffered, next.value]);
    }
    const bytes = this.#buffered.subarray(0, length);
    this.#buffered = this.#buffered.subarray(length);
    return bytes;
  }

  /** Writes; resolves once the client has taken it, as far as the socket's buffer does not. */
  write(...parts: Uint8Array[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.socket.write(Buffer.concat(parts), (error) => (error ? reject(error) : resolve()));
    });
  }

  async greet(flags = 3): Promise<void> {
    await this.write(GREETING, u16(flags));
    await this.read(4);
  }

  async option(): Promise<{ readonly option: number; readonly data: Buffer }> {
    const head = await this.read(16);
    return { option: head.readUInt32BE(8), data: await this.read(head.readUInt32BE(12)) };
  }

  reply(option: number, type: number, data: Uint8Array = Buffer.alloc(0)): Promise<void> {
    return this.write(u64(0x3e889045565a9n), u32(option), u32(type), u32(data.length), data);
  }

  /** A whole handshake, up to the ACK of GO. */
  async shakeHands(facts: FakeExport = {}): Promise<void> {
    const { structured = true, extended = false, contexts = ["base:allocation"], infos = [], only = false } = facts;
    await this.greet();
    for (;;) {
      const { option } = await this.option();
      if (option === 7) break;
      const selects = option === 10 && contexts !== false;
      if (selects)
        for (const [i, name] of contexts.entries())
          await this.reply(10, 4, Buffer.concat([u32(7 + i), Buffer.from(name)]));
      const yes = (option === 11 && extended) || (option === 8 && structured) || selects;
      await this.reply(option, yes ? ACK : UNSUP);
    }
    if (!only)
      await this.reply(7, 3, Buffer.concat([u16(0), u64(facts.sizeBytes ?? 1 << 20), u16(facts.flags ?? 0x3)]));
    for (const info of infos) await this.reply(7, 3, info);
    await this.reply(7, ACK);
  }

  async request(isExtended = false): Promise<FakeRequest> {
    const head = await this.read(isExtended ? 32 : 28);
    return {
      flags: head.readUInt16BE(4),
      command: head.readUInt16BE(6),
      cookie: head.readBigUInt64BE(8),
      offset: head.readBigUInt64BE(16),
      length: isExtended ? Number(head.readBigUInt64BE(24)) : head.readUInt32BE(24),
    };
  }

  simple(cookie: bigint, error: number, data: Uint8Array = Buffer.alloc(0)): Promise<void> {
    return this.write(u32(0x67446698), u32(error), u64(cookie), data);
  }

  /** A structured chunk; `claims` is the length that its head says, where it is to be wrong. */
  chunk(
    cookie: bigint,
    type: number,
    payload: Uint8Array,
    { last = true, claims = payload.length } = {},
  ): Promise<void> {
    return this.write(u32(0x668e33ef), u16(last ? 1 : 0), u16(type), u64(cookie), u32(claims), payload);
  }

  extendedChunk(request: FakeRequest, type: number, payload: Uint8Array, last = true): Promise<void> {
    const { cookie, offset } = request;
    return this.write(
      u32(0x6e8a278c),
      u16(last ? 1 : 0),
      u16(type),
      u64(cookie),
      u64(offset),
      u64(payload.length),
      payload,
    );
  }
}
