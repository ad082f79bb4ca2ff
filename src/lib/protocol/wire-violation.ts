/**
 * Owns the error for a peer that breaks the protocol, and the reading of numbers that a peer chose.
 */

/** The peer broke the protocol: nothing that it sends from now on has a meaning. */
export class WireViolation extends Error {
  override readonly name = "WireViolation";
}

/** @throws WireViolation */
export function violated(what: string): never {
  throw new WireViolation(what);
}

/** A 64-bit number; no honest one is above 2^53-1. @throws WireViolation */
export function readNumber64(bytes: Buffer, at: number, what: string): number {
  const value = bytes.readBigUInt64BE(at);
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? violated(`${what} is ${value}`) : Number(value);
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A string of the protocol: UTF-8 without NUL. @throws WireViolation */
export function readString(bytes: Uint8Array, what: string): string {
  try {
    const text = utf8.decode(bytes);
    if (!text.includes("\0")) return text;
  } catch {}
  return violated(`${what} is not a string of UTF-8`);
}
