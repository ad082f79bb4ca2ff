/**
 * Owns the bytes of option haggling as the server sees them: the greeting, the head and the data of options, replies.
 * Must not know what an option does to a connection.
 */
import { EXPORT_NAME_PADDING_BYTES, Handshake, Info, MAX_STRING_BYTES, Magic, Reply } from "./constants.ts";

/** Bytes of the client's answer to the greeting. */
export const CLIENT_FLAGS_BYTES = 4;
/** Bytes before the data of an option. */
export const OPTION_HEADER_BYTES = 16;
/** Bytes before the data of a reply. */
const REPLY_HEADER_BYTES = 20;
/** Queries in one LIST_META_CONTEXT or SET_META_CONTEXT; no export has nearly as many contexts. */
const MAX_QUERIES = 256;

/** An option that is answered by an error; `message` goes to the person at the client. */
export class OptionRefusal extends Error {
  override readonly name = "OptionRefusal";
  /** One of Reply.ERR_…. */
  readonly reply: number;

  constructor(reply: number, message: string) {
    super(message);
    this.reply = reply;
  }
}

export interface OptionHeader {
  readonly option: number;
  readonly dataBytes: number;
}

/** The data of INFO and GO. */
export interface InfoRequest {
  readonly exportName: string;
  /** Values of Info, and unknown ones, which a server ignores. */
  readonly infos: ReadonlySet<number>;
}

/** The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export interface ContextRequest {
  readonly exportName: string;
  readonly queries: readonly string[];
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function invalid(message: string): OptionRefusal {
  return new OptionRefusal(Reply.ERR_INVALID, message);
}

/** A byte order mark is part of a name like any other character: two names must not become one. */
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const utf8 = new TextEncoder();

/** Text for the wire; too long a text is cut between two characters. */
function encodeText(text: string): Uint8Array {
  const target = new Uint8Array(Math.min(3 * text.length, MAX_STRING_BYTES));
  return target.subarray(0, utf8.encodeInto(text, target).written);
}

/**
 * A string from a client.
 * @param what a name for it, for the message
 * @throws {OptionRefusal} if it is not UTF-8, has a NUL or is too long
 */
export function decodeText(bytes: Uint8Array, what: string): string {
  if (bytes.length > MAX_STRING_BYTES)
    throw new OptionRefusal(Reply.ERR_TOO_BIG, `${what} is longer than ${MAX_STRING_BYTES} bytes`);
  if (bytes.includes(0)) throw invalid(`${what} has a NUL in it`);
  try {
    return strictUtf8.decode(bytes);
  } catch {
    throw invalid(`${what} is not UTF-8`);
  }
}

/** Reads the fields of an option's data one after the other, and refuses the option where they end too early. */
class FieldReader {
  readonly #data: Uint8Array;
  #at = 0;

  constructor(data: Uint8Array) {
    this.#data = data;
  }

  get leftBytes(): number {
    return this.#data.length - this.#at;
  }

  u16(what: string): number {
    return viewOf(this.#take(2, what)).getUint16(0);
  }

  u32(what: string): number {
    return viewOf(this.#take(4, what)).getUint32(0);
  }

  /** A string behind its length. */
  text(what: string): string {
    return decodeText(this.#take(this.u32(`the length of ${what}`), what), what);
  }

  #take(bytes: number, what: string): Uint8Array {
    if (bytes > this.leftBytes) throw invalid(`the option's data ends within ${what}`);
    this.#at += bytes;
    return this.#data.subarray(this.#at - bytes, this.#at);
  }
}

/** What the server says first. */
export function encodeGreeting(): Uint8Array {
  const bytes = new Uint8Array(18);
  const view = viewOf(bytes);
  view.setBigUint64(0, Magic.INIT);
  view.setBigUint64(8, Magic.OPTION);
  view.setUint16(16, Handshake.FIXED_NEWSTYLE | Handshake.NO_ZEROES);
  return bytes;
}

/** The client's answer to the greeting, as an unsigned number. */
export function decodeClientFlags(bytes: Uint8Array): number {
  return viewOf(bytes).getUint32(0);
}

/** @returns undefined if it does not begin with the magic: then the start of the next option is unknown */
export function decodeOptionHeader(bytes: Uint8Array): OptionHeader | undefined {
  const view = viewOf(bytes);
  if (view.getBigUint64(0) !== Magic.OPTION) return undefined;
  return { option: view.getUint32(8), dataBytes: view.getUint32(12) };
}

/** @throws {OptionRefusal} if lengths contradict each other or the data, or the name is not valid */
export function decodeInfoRequest(data: Uint8Array): InfoRequest {
  const reader = new FieldReader(data);
  const exportName = reader.text("the export's name");
  const count = reader.u16("the number of information requests");
  if (reader.leftBytes !== 2 * count)
    throw invalid(`${count} information requests are announced, ${reader.leftBytes} bytes of them are there`);
  const infos = new Set<number>();
  for (let i = 0; i < count; i++) infos.add(reader.u16("the information requests"));
  return { exportName, infos };
}

/** @throws {OptionRefusal} if lengths contradict each other or the data, or there is an invalid string, or too many */
export function decodeContextRequest(data: Uint8Array): ContextRequest {
  const reader = new FieldReader(data);
  const exportName = reader.text("the export's name");
  const count = reader.u32("the number of queries");
  // Each query has at least a length: a number that does not fit is a wrong length, not a large request.
  if (4 * count > reader.leftBytes)
    throw invalid(`${count} queries are announced, ${reader.leftBytes} bytes of them are there`);
  if (count > MAX_QUERIES)
    throw new OptionRefusal(Reply.ERR_TOO_BIG, `${count} queries are too many, ${MAX_QUERIES} may be asked at once`);
  const queries = Array.from({ length: count }, () => reader.text("a query"));
  if (reader.leftBytes > 0) throw invalid(`${reader.leftBytes} bytes are left behind the last query`);
  return { exportName, queries };
}

/** Concatenates pieces. */
export function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** One reply to an option. */
export function encodeReply(option: number, reply: number, data: readonly Uint8Array[] = []): Uint8Array {
  const header = new Uint8Array(REPLY_HEADER_BYTES);
  const view = viewOf(header);
  view.setBigUint64(0, Magic.OPTION_REPLY);
  view.setUint32(8, option);
  view.setUint32(12, reply);
  view.setUint32(
    16,
    data.reduce((sum, { length }) => sum + length, 0),
  );
  return joined([header, ...data]);
}

/** The reply that refuses an option. */
export function encodeRefusal(option: number, refusal: OptionRefusal): Uint8Array {
  return encodeReply(option, refusal.reply, [encodeText(refusal.message)]);
}

/** A line of the answer to LIST. */
export function encodeServer(option: number, name: string, description: string): Uint8Array {
  const nameBytes = encodeText(name);
  return encodeReply(option, Reply.SERVER, [u32(nameBytes.length), nameBytes, encodeText(description)]);
}

/** A line of the answers to LIST_META_CONTEXT (its id is 0) and SET_META_CONTEXT. */
export function encodeContext(option: number, id: number, name: string): Uint8Array {
  return encodeReply(option, Reply.META_CONTEXT, [u32(id), encodeText(name)]);
}

/** INFO_EXPORT. */
export function encodeInfoExport(option: number, sizeBytes: number, flags: number): Uint8Array {
  return encodeReply(option, Reply.INFO, [u16(Info.EXPORT), sizeAndFlags(sizeBytes, flags)]);
}

/** INFO_NAME and INFO_DESCRIPTION. */
export function encodeInfoText(option: number, info: number, text: string): Uint8Array {
  return encodeReply(option, Reply.INFO, [u16(info), encodeText(text)]);
}

/** INFO_BLOCK_SIZE; all three in bytes. */
export function encodeInfoBlockSize(option: number, minimum: number, preferred: number, maximum: number): Uint8Array {
  return encodeReply(option, Reply.INFO, [u16(Info.BLOCK_SIZE), u32(minimum), u32(preferred), u32(maximum)]);
}

/** The answer to EXPORT_NAME, which has no head. */
export function encodeExportName(sizeBytes: number, flags: number, withZeroes: boolean): Uint8Array {
  return joined([sizeAndFlags(sizeBytes, flags), new Uint8Array(withZeroes ? EXPORT_NAME_PADDING_BYTES : 0)]);
}

function sizeAndFlags(sizeBytes: number, flags: number): Uint8Array {
  const bytes = new Uint8Array(10);
  const view = viewOf(bytes);
  view.setBigUint64(0, BigInt(sizeBytes));
  view.setUint16(8, flags);
  return bytes;
}

function u16(value: number): Uint8Array {
  const bytes = new Uint8Array(2);
  viewOf(bytes).setUint16(0, value);
  return bytes;
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  viewOf(bytes).setUint32(0, value);
  return bytes;
}
