/**
 * Owns the transmission phase as a client by the book sees it: requests of any kind, also wrong ones, and replies that are
 * taken apart without mercy: every rule of the protocol about chunks is a thrown error here. Has the protocol's numbers
 * from the book, not from the library.
 */
import { type Entry, RawClient, type Style, type Terms } from "./raw-client.ts";

export const CMD = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const;
export const FLAG = { FUA: 1, NO_HOLE: 2, DF: 4, REQ_ONE: 8, FAST_ZERO: 16, PAYLOAD_LEN: 32 } as const;
export const ERR = { EPERM: 1, EIO: 5, ENOMEM: 12, EINVAL: 22, ENOSPC: 28, EOVERFLOW: 75, ENOTSUP: 95, ESHUTDOWN: 108 };
const LEGAL_ERRORS: ReadonlySet<number> = new Set(Object.values(ERR));
const SIMPLE_REPLY = 0x67446698;
const STRUCTURED_REPLY = 0x668e33ef;
const EXTENDED_REPLY = 0x6e8a278c;
const TYPE = { NONE: 0, DATA: 1, HOLE: 2, STATUS: 5, STATUS_EXT: 6, ERROR: 0x8001, ERROR_OFFSET: 0x8002 };

export interface Ask {
  readonly type: number;
  readonly flags?: number;
  readonly offset?: number | bigint;
  readonly length?: number | bigint;
  readonly payload?: Uint8Array;
  readonly cookie?: bigint;
}

export interface ChunkSeen {
  readonly type: number;
  readonly offset: number;
  readonly length: number;
}

export interface Answer {
  readonly cookie: bigint;
  /** 0, or one of the protocol's numbers. */
  readonly error: number;
  readonly text: string;
  readonly errorOffset: bigint | undefined;
  readonly isSimple: boolean;
  /** What READ gave; holes are zeros in it. */
  readonly data: Buffer;
  /** The chunks with content, in their order. */
  readonly chunks: readonly ChunkSeen[];
  /** Of BLOCK_STATUS: by context name, pairs of length and flags. */
  readonly extents: ReadonlyMap<string, readonly (readonly [number, number])[]>;
}

interface Pending {
  readonly ask: Ask;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
  answer: Answer;
  covered: number;
}

function violated(what: string): never {
  throw new Error(`the server broke the protocol: ${what}`);
}

export class RawSession {
  readonly client: RawClient;
  readonly terms: Terms;
  readonly #pending = new Map<bigint, Pending>();
  #nextCookie = 0x0123_4567_89ab_0000n;
  #isReading = false;

  constructor(client: RawClient, terms: Terms) {
    this.client = client;
    this.terms = terms;
  }

  static async open(where: string | number, style: Style, entry: Entry = {}): Promise<RawSession> {
    return new RawSession(...(await RawClient.enter(where, style, entry)));
  }

  /** The head of a request. */
  head({ type, flags = 0, offset = 0, length = 0, cookie = 0n }: Ask): Buffer {
    const isExtended = this.terms.style === "extended";
    const bytes = Buffer.alloc(isExtended ? 32 : 28);
    bytes.writeUInt32BE(isExtended ? 0x21e41c71 : 0x25609513, 0);
    bytes.writeUInt16BE(isExtended && type === CMD.WRITE ? flags | FLAG.PAYLOAD_LEN : flags, 4);
    bytes.writeUInt16BE(type, 6);
    bytes.writeBigUInt64BE(cookie, 8);
    bytes.writeBigUInt64BE(BigInt(offset), 16);
    if (isExtended) bytes.writeBigUInt64BE(BigInt(length), 24);
    else bytes.writeUInt32BE(Number(length), 24);
    return bytes;
  }

  /** Sends requests together and waits for all answers, in the order of the requests. */
  all(...asks: readonly Ask[]): Promise<Answer[]> {
    return this.#post(asks, (bytes) => this.client.send(bytes));
  }

  /** The same, one byte at a time. */
  dribble(...asks: readonly Ask[]): Promise<Answer[]> {
    return this.#post(asks, (bytes) => this.client.dribble(bytes));
  }

  #post(asks: readonly Ask[], send: (bytes: Buffer) => Promise<void>): Promise<Answer[]> {
    const pieces: Uint8Array[] = [];
    const answers: Promise<Answer>[] = [];
    for (const given of asks) {
      const length = given.length ?? given.payload?.length ?? 0;
      const ask = { ...given, cookie: given.cookie ?? this.#nextCookie++, length };
      pieces.push(this.head(ask), ...(ask.payload ? [ask.payload] : []));
      answers.push(this.#expect(ask));
    }
    void send(Buffer.concat(pieces));
    void this.#read();
    return Promise.all(answers);
  }

  async ask(ask: Ask): Promise<Answer> {
    const [answer] = await this.all(ask);
    return answer ?? violated("no answer");
  }

  /** What a READ gives; throws what the server refuses. */
  async read(offset: number | bigint, length: number, flags = 0): Promise<Buffer> {
    return succeed(await this.ask({ type: CMD.READ, offset, length, flags })).data;
  }

  async write(offset: number, payload: Uint8Array, flags = 0): Promise<void> {
    succeed(await this.ask({ type: CMD.WRITE, offset, payload, flags }));
  }

  /** Says goodbye and waits until the server hangs up. Returns what else the server had to say, which is nothing. */
  async goodbye(): Promise<Buffer> {
    await this.client.send(this.head({ type: CMD.DISC }));
    const rest = await this.client.end();
    this.client.leave();
    return rest;
  }

  #expect(ask: Ask & { readonly cookie: bigint }): Promise<Answer> {
    if (this.#pending.has(ask.cookie)) throw new Error("this cookie is on its way already");
    return new Promise((resolve, reject) => {
      const answer: Answer = {
        cookie: ask.cookie,
        error: 0,
        text: "",
        errorOffset: undefined,
        isSimple: true,
        data: Buffer.alloc(ask.type === CMD.READ && Number(ask.length) <= 2 ** 27 ? Number(ask.length) : 0),
        chunks: [],
        extents: new Map(),
      };
      this.#pending.set(ask.cookie, { ask, resolve, reject, answer, covered: 0 });
    });
  }

  /** Reads replies as long as somebody waits for one. */
  async #read(): Promise<void> {
    if (this.#isReading) return;
    this.#isReading = true;
    try {
      while (this.#pending.size > 0) await this.#readOne();
    } catch (error) {
      for (const { reject } of this.#pending.values()) reject(error);
      this.#pending.clear();
    } finally {
      this.#isReading = false;
    }
  }

  async #readOne(): Promise<void> {
    const magic = (await this.client.read(4)).readUInt32BE(0);
    if (magic === SIMPLE_REPLY) await this.#readSimple();
    else if (magic === (this.terms.style === "extended" ? EXTENDED_REPLY : STRUCTURED_REPLY)) await this.#readChunk();
    else violated(`magic 0x${magic.toString(16)}`);
  }

  async #readSimple(): Promise<void> {
    if (this.terms.style === "extended") violated("a simple reply although extended headers are on");
    const rest = await this.client.read(12);
    const error = rest.readUInt32BE(0);
    const pending = this.#of(rest.readBigUInt64BE(4));
    const isChunked = this.terms.style !== "simple";
    if (isChunked && pending.ask.type === CMD.READ)
      violated("a simple reply to READ although structured replies are on");
    if (isChunked && pending.ask.type === CMD.BLOCK_STATUS && error === 0) violated("a simple reply to BLOCK_STATUS");
    if (pending.answer.chunks.length > 0 || !pending.answer.isSimple) violated("a simple reply after chunks");
    checkError(error, true);
    const hasData = pending.ask.type === CMD.READ && error === 0;
    const data = hasData ? await this.client.read(Number(pending.ask.length)) : Buffer.alloc(0);
    this.#settle(pending, { ...pending.answer, error, data });
  }

  #of(cookie: bigint): Pending {
    return this.#pending.get(cookie) ?? violated(`nobody asked with cookie 0x${cookie.toString(16)}`);
  }

  #settle(pending: Pending, answer: Answer): void {
    this.#pending.delete(answer.cookie);
    pending.resolve(answer);
  }

  async #readChunk(): Promise<void> {
    if (this.terms.style === "simple") violated("a chunk although structured replies were not negotiated");
    const isExtended = this.terms.style === "extended";
    const header = await this.client.read(isExtended ? 28 : 16);
    const flags = header.readUInt16BE(0);
    const type = header.readUInt16BE(2);
    const pending = this.#of(header.readBigUInt64BE(4));
    if ((flags & ~1) !== 0) violated(`chunk flags 0x${flags.toString(16)}`);
    if (isExtended && header.readBigUInt64BE(12) !== BigInt.asUintN(64, BigInt(pending.ask.offset ?? 0)))
      violated("the offset of the request is not repeated");
    const length = isExtended ? Number(header.readBigUInt64BE(20)) : header.readUInt32BE(12);
    const payload = await this.client.read(length);
    pending.answer = takeChunk(pending, type, payload, this.terms);
    if ((flags & 1) === 0) {
      if (type === TYPE.NONE) violated("NONE without DONE");
      return;
    }
    const { ask, answer, covered } = pending;
    if (ask.type === CMD.READ && answer.error === 0 && covered !== Number(ask.length))
      violated(`${covered} bytes were sent where ${ask.length} were asked for`);
    if (ask.type === CMD.BLOCK_STATUS && answer.error === 0 && answer.extents.size !== this.terms.contexts.size)
      violated(`${answer.extents.size} contexts were told of`);
    this.#settle(pending, answer);
  }
}

function takeChunk(pending: Pending, type: number, payload: Buffer, terms: Terms): Answer {
  const answer: Answer = { ...pending.answer, isSimple: false };
  if (type >= 0x8000) return takeError(answer, pending.ask, type, payload);
  if (type === TYPE.NONE) return payload.length === 0 ? answer : violated("NONE with a payload");
  if (type === TYPE.STATUS || type === TYPE.STATUS_EXT) return takeStatus(answer, pending.ask, type, payload, terms);
  if (type !== TYPE.DATA && type !== TYPE.HOLE) violated(`chunk of type ${type}`);
  return takeContent(answer, pending, type, payload);
}

function takeContent(answer: Answer, pending: Pending, type: number, payload: Buffer): Answer {
  const { ask } = pending;
  if (ask.type !== CMD.READ) violated("content that nobody asked for");
  if (((ask.flags ?? 0) & FLAG.DF) !== 0 && (type === TYPE.HOLE || answer.chunks.length > 0))
    violated("DF was ignored");
  if (type === TYPE.HOLE && payload.length !== 12) violated(`a hole chunk of ${payload.length} bytes`);
  const offset = Number(payload.readBigUInt64BE(0)) - Number(ask.offset ?? 0);
  const length = type === TYPE.HOLE ? payload.readUInt32BE(8) : payload.length - 8;
  if (length <= 0 || offset < 0 || offset + length > Number(ask.length)) violated("a chunk outside of the request");
  for (const chunk of answer.chunks) {
    if (offset < chunk.offset + chunk.length && chunk.offset < offset + length) violated("chunks overlap");
  }
  if (type === TYPE.DATA) payload.copy(answer.data, offset, 8);
  pending.covered += length;
  return { ...answer, chunks: [...answer.chunks, { type, offset, length }] };
}

function takeError(answer: Answer, ask: Ask, type: number, payload: Buffer): Answer {
  if (type !== TYPE.ERROR && type !== TYPE.ERROR_OFFSET) violated(`error chunk of type ${type}`);
  const error = payload.readUInt32BE(0);
  checkError(error, false);
  const textEnd = 6 + payload.readUInt16BE(4);
  if (payload.length !== textEnd + (type === TYPE.ERROR_OFFSET ? 8 : 0)) violated("lengths in an error chunk");
  const text = new TextDecoder("utf-8", { fatal: true }).decode(payload.subarray(6, textEnd));
  if (type === TYPE.ERROR) return { ...answer, error, text };
  const errorOffset = payload.readBigUInt64BE(textEnd);
  const start = BigInt(ask.offset ?? 0);
  if (errorOffset < start || errorOffset >= start + BigInt(ask.length ?? 0))
    violated(`the error's offset ${errorOffset} lies outside of the request, ${start} + ${ask.length}`);
  return { ...answer, error, text, errorOffset };
}

function takeStatus(answer: Answer, ask: Ask, type: number, payload: Buffer, terms: Terms): Answer {
  const isExtended = terms.style === "extended";
  if (ask.type !== CMD.BLOCK_STATUS || (type === TYPE.STATUS_EXT) !== isExtended) violated(`chunk of type ${type}`);
  const name = terms.contexts.get(payload.readUInt32BE(0)) ?? violated("status of a context that was not selected");
  if (answer.extents.has(name)) violated(`${name} came twice`);
  const [head, width] = isExtended ? [8, 16] : [4, 8];
  const count = (payload.length - head) / width;
  if (!Number.isInteger(count) || count < 1) violated(`a status chunk of ${payload.length} bytes`);
  if (isExtended && payload.readUInt32BE(4) !== count) violated("the number of extents is wrong");
  const extents: [number, number][] = [];
  for (let at = head; at < payload.length; at += width) {
    if (isExtended) extents.push([Number(payload.readBigUInt64BE(at)), Number(payload.readBigUInt64BE(at + 8))]);
    else extents.push([payload.readUInt32BE(at), payload.readUInt32BE(at + 4)]);
  }
  checkExtents(extents, ask);
  return { ...answer, extents: new Map([...answer.extents, [name, extents]]) };
}

function checkExtents(extents: readonly (readonly [number, number])[], ask: Ask): void {
  if (extents.some(([length]) => length === 0)) violated("an extent of nothing");
  for (const [i, [, flags]] of extents.entries()) if (i > 0 && extents[i - 1]?.[1] === flags) violated("not merged");
  const wanted = Number(ask.length);
  const beforeLast = extents.slice(0, -1).reduce((sum, [length]) => sum + length, 0);
  if (beforeLast >= wanted) violated("extents behind the end of the request");
  if (((ask.flags ?? 0) & FLAG.REQ_ONE) === 0) return;
  if (extents.length !== 1 || (extents[0]?.[0] ?? 0) > wanted) violated("REQ_ONE was ignored");
}

function checkError(error: number, mayBeNone: boolean): void {
  if (error === 0 ? !mayBeNone : !LEGAL_ERRORS.has(error)) violated(`error ${error} must not go over the wire`);
}

/** The answer, unless it is an error. */
export function succeed(answer: Answer): Answer {
  if (answer.error !== 0) throw new Error(`error ${answer.error}: ${answer.text}`);
  return answer;
}
