/**
 * Owns the decoding of a request's head. Numbers come as they are; transmission.ts judges them.
 */
import { EXTENDED_REQUEST_BYTES, Magic, REQUEST_BYTES } from "../../protocol/constants.ts";

/** Above this, a number is no longer exact; no image is that large. */
const UNSAFE_HIGH = 0x20_0000;

/** The request that a reply answers. */
export interface Asked {
  readonly cookieHigh: number;
  readonly cookieLow: number;
  /** As in the request, for extended replies. */
  readonly offsetHigh: number;
  readonly offsetLow: number;
}

export class Request implements Asked {
  flags = 0;
  type = 0;
  cookieHigh = 0;
  cookieLow = 0;
  offsetHigh = 0;
  offsetLow = 0;
  /** In bytes; Infinity where it exceeds what a number holds exactly. */
  offset = 0;
  length = 0;
  /** When its first bytes were received, on the clock of meter/clock.ts. */
  arrivedNs = 0;

  /** Copies another's values. */
  copy(other: Request): void {
    this.flags = other.flags;
    this.type = other.type;
    this.cookieHigh = other.cookieHigh;
    this.cookieLow = other.cookieLow;
    this.offsetHigh = other.offsetHigh;
    this.offsetLow = other.offsetLow;
    this.offset = other.offset;
    this.length = other.length;
    this.arrivedNs = other.arrivedNs;
  }

  /** @returns false if the magic number is not that of a request */
  decode(view: DataView, at: number, extended: boolean): boolean {
    if (view.getUint32(at) !== (extended ? Magic.EXTENDED_REQUEST : Magic.REQUEST)) return false;
    this.flags = view.getUint16(at + 4);
    this.type = view.getUint16(at + 6);
    this.cookieHigh = view.getUint32(at + 8);
    this.cookieLow = view.getUint32(at + 12);
    this.offsetHigh = view.getUint32(at + 16);
    this.offsetLow = view.getUint32(at + 20);
    this.offset = wide(this.offsetHigh, this.offsetLow);
    this.length = extended ? wide(view.getUint32(at + 24), view.getUint32(at + 28)) : view.getUint32(at + 24);
    return true;
  }
}

function wide(high: number, low: number): number {
  return high >= UNSAFE_HIGH ? Number.POSITIVE_INFINITY : high * 2 ** 32 + low;
}

export function requestBytes(extended: boolean): number {
  return extended ? EXTENDED_REQUEST_BYTES : REQUEST_BYTES;
}
