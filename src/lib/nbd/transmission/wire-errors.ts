/**
 * Owns the translation of errors for the wire: one of the few numbers that the protocol knows, and a text.
 */
import { CowError, type ErrorCode } from "../../errors.ts";
import { WireError } from "../../protocol/constants.ts";

/** A request that is refused, not one that failed. */
export class Refusal extends Error {
  readonly wireError: number;
  readonly offset: number | undefined;

  constructor(wireError: number, message: string, offset?: number) {
    super(message);
    this.wireError = wireError;
    this.offset = offset;
  }
}

const NUMBERS: Partial<Readonly<Record<ErrorCode, number>>> = {
  "no-space": WireError.ENOSPC,
  permission: WireError.EPERM,
};

/** To a client, disk quotas and file-size limits are full disks; errors without a number of their own are I/O errors. */
export function wireErrorOf(error: unknown): number {
  if (error instanceof Refusal) return error.wireError;
  if (error instanceof RangeError && /alloc/i.test(error.message)) return WireError.ENOMEM;
  if (error instanceof CowError) return NUMBERS[error.code] ?? WireError.EIO;
  return WireError.EIO;
}

/** The offset in the image at which it happened, if known. */
export function offsetOf(error: unknown): number | undefined {
  return error instanceof Refusal ? error.offset : undefined;
}

/** For the server's user. */
export function wordsOf(error: unknown): string {
  if (error instanceof CowError && error.file !== undefined) return `${error.file}: ${error.message}`;
  return wordsForClient(error);
}

/** For clients, which must not learn our file names. */
export function wordsForClient(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
