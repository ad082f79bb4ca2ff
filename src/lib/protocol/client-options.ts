/**
 * Owns the bytes of the handshake as a client sends and understands them. Knows no sockets and no order of events.
 */
import { ClientFlag, Handshake, Info, MAX_STRING_BYTES, Magic, Reply } from "./constants.ts";
import { readNumber64, readString, violated } from "./wire-violation.ts";

export const GREETING_BYTES = 18;
export const OPTION_REPLY_BYTES = 20;
/** Size and flags that EXPORT_NAME answers with, without the padding. */
export const EXPORT_NAME_ANSWER_BYTES = 10;

/** The greeting of servers that know no options. */
const OLD_STYLE = 0x00420281861253n;
/** A string and the little that goes with it. */
const LARGEST_REPLY_BYTES = 2 * MAX_STRING_BYTES + 64;

/** The handshake flags of a greeting. @throws WireViolation */
export function decodeGreeting(bytes: Buffer): number {
  if (bytes.readBigUInt64BE(0) !== Magic.INIT) violated("it does not begin as an NBD server does");
  const style = bytes.readBigUInt64BE(8);
  if (style === OLD_STYLE) violated("it speaks the old style of NBD, without options");
  if (style !== Magic.OPTION) violated("it greets in no style of NBD");
  return bytes.readUInt16BE(16);
}

/** The client's answer to a greeting. */
export function encodeClientFlags(greeting: number): Buffer {
  const answer = Buffer.alloc(4);
  const fixed = (greeting & Handshake.FIXED_NEWSTYLE) === 0 ? 0 : ClientFlag.FIXED_NEWSTYLE;
  answer.writeUInt32BE(fixed | ((greeting & Handshake.NO_ZEROES) === 0 ? 0 : ClientFlag.NO_ZEROES));
  return answer;
}

export function encodeOption(option: number, data: Uint8Array = new Uint8Array(0)): Buffer {
  const head = Buffer.alloc(16);
  head.writeBigUInt64BE(Magic.OPTION, 0);
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(data.length, 12);
  return Buffer.concat([head, data]);
}

/** The data of INFO and GO. */
export function encodeInfoRequest(exportName: string, infos: readonly number[]): Buffer {
  const types = Buffer.alloc(2 + 2 * infos.length);
  types.writeUInt16BE(infos.length, 0);
  for (const [i, info] of infos.entries()) types.writeUInt16BE(info, 2 + 2 * i);
  return Buffer.concat([lengthAndText(exportName), types]);
}

/** The data of SET_META_CONTEXT. */
export function encodeContextRequest(exportName: string, contexts: readonly string[]): Buffer {
  const count = Buffer.alloc(4);
  count.writeUInt32BE(contexts.length);
  return Buffer.concat([lengthAndText(exportName), count, ...contexts.map(lengthAndText)]);
}

function lengthAndText(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

export interface OptionReplyHead {
  readonly type: number;
  /** Of the data that follows; never more than a string needs. */
  readonly length: number;
}

/** @throws WireViolation unless it is a reply to `option` of a bearable length */
export function decodeOptionReplyHead(bytes: Buffer, option: number): OptionReplyHead {
  if (bytes.readBigUInt64BE(0) !== Magic.OPTION_REPLY) violated("a reply to an option has another magic number");
  const echoed = bytes.readUInt32BE(8);
  if (echoed !== option) violated(`option ${option} is answered with a reply to option ${echoed}`);
  const length = bytes.readUInt32BE(16);
  if (length > LARGEST_REPLY_BYTES) violated(`a reply to option ${option} is ${length} bytes long`);
  return { type: bytes.readUInt32BE(12), length };
}

export function isErrorReply(type: number): boolean {
  return type >= 0x8000_0000;
}

const ERROR_WORDS: Readonly<Record<number, string>> = {
  [Reply.ERR_UNSUP]: "it does not know what was asked for",
  [Reply.ERR_POLICY]: "it does not allow that",
  [Reply.ERR_INVALID]: "it takes the request for invalid",
  [Reply.ERR_PLATFORM]: "its platform cannot do that",
  [Reply.ERR_TLS_REQD]: "it wants TLS",
  [Reply.ERR_UNKNOWN]: "it has no such export",
  [Reply.ERR_SHUTDOWN]: "it is shutting down",
  [Reply.ERR_BLOCK_SIZE_REQD]: "it wants block sizes to be agreed on",
  [Reply.ERR_TOO_BIG]: "the request is too big for it",
  [Reply.ERR_EXT_HEADER_REQD]: "it wants extended headers",
};

/** An error reply in words, with the server's own text. */
export function describeErrorReply(type: number, data: Uint8Array): string {
  const words = ERROR_WORDS[type] ?? `it answers with error ${type - 0x8000_0000}`;
  return data.length === 0 ? words : `${words} ("${new TextDecoder().decode(data).trim()}")`;
}

export interface BlockSizes {
  /** A power of two, at most 64 KiB: offsets and lengths must be multiples of it. */
  readonly minimum: number;
  readonly preferred: number;
  /** Of the payload of one request. */
  readonly maximum: number;
}

/** What a server tells of an export that is of use to us; undefined for everything else. */
export type ExportInfo =
  | { readonly kind: "export"; readonly sizeBytes: number; readonly flags: number }
  | { readonly kind: "block-size"; readonly blockSizes: BlockSizes };

/** Size and flags, as in INFO_EXPORT and in the answer to EXPORT_NAME. @throws WireViolation */
export function decodeSizeAndFlags(bytes: Buffer): { readonly sizeBytes: number; readonly flags: number } {
  return { sizeBytes: readNumber64(bytes, 0, "the export's size"), flags: bytes.readUInt16BE(8) };
}

/** @throws WireViolation */
export function decodeInfo(data: Buffer): ExportInfo | undefined {
  if (data.length < 2) violated("an information about the export is cut short");
  const type = data.readUInt16BE(0);
  if (type === Info.EXPORT) {
    if (data.length !== 12) violated(`the export's size and flags are ${data.length} bytes long`);
    return { kind: "export", ...decodeSizeAndFlags(data.subarray(2)) };
  }
  if (type !== Info.BLOCK_SIZE) return undefined;
  if (data.length !== 14) violated(`the block sizes are ${data.length} bytes long`);
  const [minimum, preferred, maximum] = [data.readUInt32BE(2), data.readUInt32BE(6), data.readUInt32BE(10)];
  const isPower = minimum !== 0 && (minimum & (minimum - 1)) === 0;
  if (!isPower || minimum > 65_536 || preferred < minimum || maximum < minimum)
    violated(`block sizes of ${minimum}, ${preferred} and ${maximum} bytes`);
  return { kind: "block-size", blockSizes: { minimum, preferred, maximum } };
}

/** A context that the server will report on, and the number by which it calls it. @throws WireViolation */
export function decodeContext(data: Buffer): { readonly id: number; readonly name: string } {
  if (data.length < 4) violated("a meta context is cut short");
  return { id: data.readUInt32BE(0), name: readString(data.subarray(4), "the name of a meta context") };
}
