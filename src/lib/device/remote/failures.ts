/**
 * Owns the errors of a server: a lost connection (which may be made again), and refused requests.
 */

import { atByte, CowError, type ErrorCode, errnoName, wordsOf } from "../../errors.ts";
import type { WireFailure } from "../../protocol/client-requests.ts";
import { WireError } from "../../protocol/constants.ts";

/** There is no connection (any more): the same request may succeed on the next one. */
export class ConnectionLost extends Error {
  override readonly name = "ConnectionLost";
}

const SYSTEM_WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "no server listens there",
  ENOENT: "there is no such socket",
  ECONNRESET: "the server cut the connection",
  EPIPE: "the server closed the connection",
  ETIMEDOUT: "the connection timed out",
  EHOSTUNREACH: "the host cannot be reached",
  ENETUNREACH: "the network cannot be reached",
  ENOTFOUND: "there is no such host",
  EAI_AGAIN: "the name of the host could not be looked up",
  EACCES: "permission denied",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "the server's certificate is not signed by a trusted authority",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "the server's certificate is not signed by a trusted authority",
  SELF_SIGNED_CERT_IN_CHAIN: "the server's certificate is not signed by a trusted authority",
  DEPTH_ZERO_SELF_SIGNED_CERT: "the server's certificate is not signed by a trusted authority",
  CERT_HAS_EXPIRED: "the server's certificate has expired",
  ERR_TLS_CERT_ALTNAME_INVALID: "the server's certificate is for another host",
};

/** What a socket, or the TLS on it, reports. */
export function connectionError(error: unknown): Error {
  if (error instanceof CowError || error instanceof ConnectionLost) return error;
  const errno = errnoName(error);
  const words = (errno && SYSTEM_WORDS[errno]) ?? wordsOf(error);
  return new ConnectionLost(words, { cause: error });
}

interface Meaning {
  readonly code: ErrorCode;
  readonly errno: string;
  readonly words: string;
}

const MEANINGS: Readonly<Record<number, Meaning>> = {
  [WireError.EPERM]: { code: "permission", errno: "EPERM", words: "operation not permitted" },
  [WireError.EIO]: { code: "io", errno: "EIO", words: "input/output error" },
  [WireError.ENOMEM]: { code: "io", errno: "ENOMEM", words: "the server is out of memory" },
  [WireError.EINVAL]: { code: "io", errno: "EINVAL", words: "the server takes the request for invalid" },
  [WireError.ENOSPC]: { code: "no-space", errno: "ENOSPC", words: "no space left on the device" },
  [WireError.EOVERFLOW]: { code: "io", errno: "EOVERFLOW", words: "the request is too large for the server" },
  [WireError.ENOTSUP]: { code: "io", errno: "ENOTSUP", words: "the server does not support it" },
  [WireError.ESHUTDOWN]: { code: "io", errno: "ESHUTDOWN", words: "the server is shutting down" },
};

/** The request that failed. */
export interface Attempted {
  /** The URI. */
  readonly name: string;
  /** `read`, … */
  readonly verb: string;
  readonly offset: number;
  readonly length: number;
}

/** `cannot read at byte 4096 (0x1000)` */
export function cannot({ verb, offset }: Attempted): string {
  return `cannot ${verb} at ${atByte(offset)}`;
}

/** The error for a request that the server refused. */
export function refusedByServer(attempted: Attempted, failure: WireFailure): CowError {
  const meaning = MEANINGS[failure.error];
  const { offset, length } = attempted;
  // An offset outside of the request is of no use.
  const told = failure.offset;
  const isInside = told !== undefined && told >= offset && told < offset + length;
  const at = { ...attempted, offset: isInside ? told : offset };
  const text = failure.message.trim();
  const words = meaning?.words ?? `error ${failure.error}`;
  return new CowError(meaning?.code ?? "io", `${cannot(at)}: ${words}${text === "" ? "" : ` ("${text}")`}`, {
    file: attempted.name,
    details: {
      ...(meaning ? { errno: meaning.errno } : {}),
      offset: at.offset,
    },
  });
}
