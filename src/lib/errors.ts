/**
 * Owns the one error type of the library and the closed list of its codes.
 * Must not know exit statuses (src/cli/exit-codes.ts maps them) and must not print.
 */
import { getSystemErrorMessage } from "node:util";

/**
 * Every way an operation can refuse or fail. A caller may branch on these for ever: codes are added, never renamed.
 *
 * - `bad-head`: the first bytes are not a head any of the formats knows, or fields in it contradict each other
 * - `unsupported`: the format is known, but this version or feature of it is not
 * - `dirty`, `packed`: the image is in a state that this operation does not take
 * - `truncated`: the file ends before what its own metadata needs
 * - `damaged`: metadata is inconsistent and was left unchanged
 * - `wrong-base`: size or fingerprint of the base is not what the layer was made for
 * - `unsuitable`: the input is sound, but cannot serve here (empty base, too large for the ABI, differing sizes)
 * - `pending-merge`: an interrupted merge owns this base
 * - `io`, `not-found`, `permission`, `exists`, `no-space`, `locked`: what the system said
 * - `usage`: the arguments contradict each other (input is output, a bad size, a bad stack)
 * - `needs-confirmation`, `declined`: a dangerous action without a yes
 * - `interrupted`: the AbortSignal fired; the message says which state things are in
 */
export const ERROR_CODES = [
  "bad-head",
  "unsupported",
  "dirty",
  "packed",
  "truncated",
  "damaged",
  "wrong-base",
  "unsuitable",
  "pending-merge",
  "io",
  "not-found",
  "permission",
  "exists",
  "no-space",
  "locked",
  "usage",
  "needs-confirmation",
  "declined",
  "interrupted",
] as const;

/** Why an operation failed; a program may branch on these. */
export type ErrorCode = (typeof ERROR_CODES)[number];

/** Facts about an error for programs: snake_case keys, byte offsets as integers. */
export type ErrorDetails = Readonly<Record<string, string | number | boolean | null>>;

/** What an error says besides its message. */
export interface CowErrorOptions {
  /** The file the message is about; printed before the message and given in JSON as `details.file`. */
  readonly file?: string | undefined;
  readonly details?: ErrorDetails;
  /** Ways out, each a lower-case sentence without a full stop. */
  readonly hints?: readonly string[];
  readonly cause?: unknown;
}

/** An operating error: something about the input, the system or the user's wish, never a bug in cowtool. */
export class CowError extends Error {
  override readonly name = "CowError";
  readonly code: ErrorCode;
  readonly file: string | undefined;
  readonly details: ErrorDetails;
  readonly hints: readonly string[];

  /** @param message a lower-case sentence without a full stop; the file's name is not part of it */
  constructor(code: ErrorCode, message: string, options: CowErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.file = options.file;
    this.details = options.file === undefined ? { ...options.details } : { file: options.file, ...options.details };
    this.hints = options.hints ?? [];
  }

  /** `CowError: vm1.cow: is dirty: …`: with the file, which the message leaves out. */
  override toString(): string {
    return `${this.name}: ${this.file === undefined ? "" : `${this.file}: `}${this.message}`;
  }
}

const SYSTEM_CODES: Readonly<Record<string, ErrorCode>> = {
  ENOENT: "not-found",
  ENOTDIR: "not-found",
  EACCES: "permission",
  EPERM: "permission",
  EROFS: "permission",
  EEXIST: "exists",
  ENOSPC: "no-space",
  EDQUOT: "no-space",
  EFBIG: "no-space",
};

const SYSTEM_WORDS: Readonly<Record<string, string>> = {
  ENOENT: "no such file or directory",
  ENOTDIR: "a part of the path is not a directory",
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  EROFS: "the file system is mounted read-only",
  EEXIST: "it already exists",
  ENOSPC: "no space left on the device",
  EDQUOT: "the disk quota is used up",
  EFBIG: "the file would exceed the largest size allowed here",
  EISDIR: "it is a directory",
  EIO: "input/output error",
  EMFILE: "too many open files",
};

/** The errno name (`ENOSPC`) of a system error, or undefined. */
export function errnoName(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/** The C library's words for a system error: Node's own text has its code, the call and the path in it. */
export function wordsOf(error: unknown): string {
  const errno = typeof error === "object" && error !== null && "errno" in error ? error.errno : undefined;
  const words = typeof errno === "number" && errno < 0 ? getSystemErrorMessage(errno) : undefined;
  return words ?? (error instanceof Error ? error.message : String(error));
}

/**
 * Turns what a system call threw into a CowError that names the file and what was being done.
 *
 * @param doing a verb phrase, such as `cannot write at byte 4096 (0x1000)`
 */
export function systemError(error: unknown, file: string, doing: string, details: ErrorDetails = {}): CowError {
  if (error instanceof CowError) return error;
  const errno = errnoName(error);
  const words = (errno && SYSTEM_WORDS[errno]) ?? wordsOf(error);
  // If the file does not exist, the verb phrase would only be noise.
  return new CowError((errno && SYSTEM_CODES[errno]) || "io", errno === "ENOENT" ? words : `${doing}: ${words}`, {
    file,
    details: errno ? { errno, ...details } : details,
    cause: error,
  });
}

/** `byte 4096 (0x1000)`: the one way an offset is written in a message. */
export function atByte(offsetBytes: number | bigint): string {
  return `byte ${offsetBytes} (0x${offsetBytes.toString(16)})`;
}

/** A name as typed into a shell: quoted if needed. */
export function shellWord(name: string): string {
  return /^[\w./,:+@%=][\w./,:+@%=-]*$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`;
}

/** Programmer errors: a broken invariant inside cowtool, mapped to exit 70. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`);
}
