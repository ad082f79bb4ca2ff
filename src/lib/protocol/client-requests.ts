/**
 * Owns the bytes of requests and of the heads and payloads of replies, as a client sends and understands them. Knows no
 * sockets, and not which requests are under way.
 */
import { Chunk, ChunkFlag, EXTENDED_REQUEST_BYTES, MAX_STRING_BYTES, Magic, REQUEST_BYTES } from "./constants.ts";
import { readNumber64, readString, violated } from "./wire-violation.ts";

/** The shortest head of a reply; its magic number says how long it really is. */
export const SIMPLE_REPLY_BYTES = 16;
const STRUCTURED_REPLY_BYTES = 20;
const EXTENDED_REPLY_BYTES = 32;

/** No real disk has more extents than this in one reply (the protocol's own limit). */
const MOST_EXTENTS = 1 << 20;
/** The rest of a longer list is not kept: who wants to know it asks again from where the list ends. */
const EXTENTS_KEPT = 1 << 16;

export interface Request {
  readonly command: number;
  readonly cookie: bigint;
  readonly offset: number;
  readonly length: number;
}

/** A request without flags. */
export function encodeRequest(request: Request, isExtended: boolean): Buffer {
  const bytes = Buffer.alloc(isExtended ? EXTENDED_REQUEST_BYTES : REQUEST_BYTES);
  bytes.writeUInt32BE(isExtended ? Magic.EXTENDED_REQUEST : Magic.REQUEST, 0);
  bytes.writeUInt16BE(request.command, 6);
  bytes.writeBigUInt64BE(request.cookie, 8);
  bytes.writeBigUInt64BE(BigInt(request.offset), 16);
  if (isExtended) bytes.writeBigUInt64BE(BigInt(request.length), 24);
  else bytes.writeUInt32BE(request.length, 24);
  return bytes;
}

/** The head of a reply. A simple reply is one final chunk whose payload, if it is a READ's, has no length of its own. */
export interface ReplyHead {
  readonly cookie: bigint;
  readonly simpleError: number | undefined;
  readonly type: number;
  readonly isLast: boolean;
  readonly payloadBytes: number;
}

/** How long a head with these first bytes is. @throws WireViolation for a kind of reply that was not agreed on */
export function replyHeadBytes(
  first: Buffer,
  agreed: { readonly structured: boolean; readonly extended: boolean },
): number {
  const magic = first.readUInt32BE(0);
  if (magic === Magic.SIMPLE_REPLY && !agreed.extended) return SIMPLE_REPLY_BYTES;
  if (magic === Magic.STRUCTURED_REPLY && agreed.structured && !agreed.extended) return STRUCTURED_REPLY_BYTES;
  if (magic === Magic.EXTENDED_REPLY && agreed.extended) return EXTENDED_REPLY_BYTES;
  return violated(`a reply begins with 0x${magic.toString(16)}`);
}

/** @throws WireViolation */
export function decodeReplyHead(bytes: Buffer): ReplyHead {
  const cookie = bytes.readBigUInt64BE(8);
  if (bytes.length === SIMPLE_REPLY_BYTES)
    return { cookie, simpleError: bytes.readUInt32BE(4), type: Chunk.NONE, isLast: true, payloadBytes: 0 };
  return {
    cookie,
    simpleError: undefined,
    type: bytes.readUInt16BE(6),
    isLast: (bytes.readUInt16BE(4) & ChunkFlag.DONE) !== 0,
    payloadBytes:
      bytes.length === EXTENDED_REPLY_BYTES ? readNumber64(bytes, 24, "the length of a chunk") : bytes.readUInt32BE(16),
  };
}

/** Chunks of these types, known or not, are errors. */
export function isErrorChunk(type: number): boolean {
  return (type & 0x8000) !== 0;
}

/** The largest payload that a chunk which is collected whole may have; READ data is not collected. */
export function payloadLimit(type: number): number {
  if (type === Chunk.OFFSET_HOLE) return 12;
  if (type === Chunk.BLOCK_STATUS) return 4 + 8 * MOST_EXTENTS;
  if (type === Chunk.BLOCK_STATUS_EXT) return 8 + 16 * MOST_EXTENTS;
  return isErrorChunk(type) ? 64 + MAX_STRING_BYTES : 0;
}

/** What a server says went wrong. */
export interface WireFailure {
  readonly error: number;
  readonly message: string;
  /** Where in the export, if it says so. */
  readonly offset: number | undefined;
}

/** @throws WireViolation */
export function decodeErrorChunk(type: number, payload: Buffer): WireFailure {
  if (payload.length < 6) violated("an error is cut short");
  const [error, length] = [payload.readUInt32BE(0), payload.readUInt16BE(4)];
  if (error === 0) violated("an error without a number");
  const rest = payload.length - 6 - length;
  if (length > MAX_STRING_BYTES || rest < 0) violated("the text of an error is longer than its chunk");
  if (type === Chunk.ERROR && rest !== 0) violated("an error has more bytes than it says");
  if (type === Chunk.ERROR_OFFSET && rest !== 8) violated("an error with an offset has none");
  return {
    error,
    message: readString(payload.subarray(6, 6 + length), "the text of an error"),
    offset: type === Chunk.ERROR_OFFSET ? readNumber64(payload, 6 + length, "the offset of an error") : undefined,
  };
}

/** A run of bytes with the flags of one meta context. */
export interface StatusExtent {
  readonly length: number;
  readonly flags: number;
}

/** The first extents of a BLOCK_STATUS chunk, and the context that they are of. @throws WireViolation */
export function decodeStatus(
  type: number,
  payload: Buffer,
): { readonly id: number; readonly extents: readonly StatusExtent[] } {
  const isExtended = type === Chunk.BLOCK_STATUS_EXT;
  const [start, size] = isExtended ? [8, 16] : [4, 8];
  const count = (payload.length - start) / size;
  if (count < 1 || !Number.isInteger(count)) violated("a block status with half an extent, or none");
  if (isExtended && payload.readUInt32BE(4) !== count)
    violated("a block status with another number of extents than it says");
  const extents = Array.from({ length: Math.min(count, EXTENTS_KEPT) }, (_, i) => {
    const at = start + i * size;
    return isExtended
      ? { length: readNumber64(payload, at, "the length of an extent"), flags: flagsOf(payload, at + 8) }
      : { length: payload.readUInt32BE(at), flags: payload.readUInt32BE(at + 4) };
  });
  if (extents.some(({ length }) => length === 0)) violated("an extent without a length");
  return { id: payload.readUInt32BE(0), extents };
}

/** 64-bit flags as far as they are exact: those of the contexts that we ask for are small. */
function flagsOf(payload: Buffer, at: number): number {
  return Number(payload.readBigUInt64BE(at));
}
