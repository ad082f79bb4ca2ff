/**
 * Owns the exit statuses: the meaning of each, and the status of every error of the library. Must stay total over
 * ErrorCode (the Record makes a missing one a compile error) and must not know messages.
 */
import type { ErrorCode } from "../lib/errors.ts";

export const EXIT = {
  /** Done; clean, also after a successful repair; identical; the fingerprint matches. */
  ok: 0,
  /** The answer is "no": differences, a mismatch, something repairable. */
  no: 1,
  /** A damaged, inconsistent or unsuitable image, left unchanged; by `repair`, repaired as far as it could be. */
  unsuitable: 4,
  /** A system error: input/output, no such file, no space, locked. */
  operational: 8,
  usage: 16,
  declined: 32,
  /** A bug in cowtool. */
  internal: 70,
  /** 128 + 2, as a shell reports a death by SIGINT. */
  sigint: 130,
  /** 128 + 15. */
  sigterm: 143,
} as const;

/** The same in a few words, for help. */
export const EXIT_WORDS: Readonly<Record<keyof typeof EXIT, string>> = {
  ok: "done; clean; identical; it matches",
  no: 'the answer is "no": differences, a mismatch, something that repair can fix',
  unsuitable: "an image is damaged or does not suit, and was left unchanged",
  operational: "the system said no: no such file, no space, in use, input/output error",
  usage: "the command line is wrong, or a confirmation is needed",
  declined: "you answered No",
  internal: "a bug in cowtool",
  sigint: "stopped by SIGINT, after cleaning up",
  sigterm: "stopped by SIGTERM, after cleaning up",
};

/** The signals that ask for a stop at the next safe boundary. */
export type StopSignal = "SIGINT" | "SIGTERM";

const EXIT_OF_CODE: Readonly<Record<Exclude<ErrorCode, "interrupted">, number>> = {
  "bad-head": EXIT.unsuitable,
  unsupported: EXIT.unsuitable,
  dirty: EXIT.unsuitable,
  packed: EXIT.unsuitable,
  truncated: EXIT.unsuitable,
  damaged: EXIT.unsuitable,
  "wrong-base": EXIT.unsuitable,
  unsuitable: EXIT.unsuitable,
  "pending-merge": EXIT.unsuitable,
  io: EXIT.operational,
  "not-found": EXIT.operational,
  permission: EXIT.operational,
  exists: EXIT.operational,
  "no-space": EXIT.operational,
  locked: EXIT.operational,
  usage: EXIT.usage,
  "needs-confirmation": EXIT.usage,
  declined: EXIT.declined,
};

/** The exit status of a stop by signal; the library's own aborts, without one, count as SIGINT. */
export function exitOfSignal(signal: StopSignal | undefined): number {
  return signal === "SIGTERM" ? EXIT.sigterm : EXIT.sigint;
}

/** @param signal the signal that arrived, if one did: only `interrupted` depends on it */
export function exitOfCode(code: ErrorCode, signal?: StopSignal): number {
  return code === "interrupted" ? exitOfSignal(signal) : EXIT_OF_CODE[code];
}

/** The exit status for a list of problems: none, some that repair can fix, or some that it cannot. */
export function exitOfTally({ fixable, unfixable }: { readonly fixable: number; readonly unfixable: number }): number {
  if (unfixable > 0) return EXIT.unsuitable;
  return fixable > 0 ? EXIT.no : EXIT.ok;
}
