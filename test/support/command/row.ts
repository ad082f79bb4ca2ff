/**
 * Owns what the command contract needs to know of a command. Must not know any command.
 */
import type { At } from "./files.ts";

/** A command line that works. */
export interface Run {
  readonly title: string;
  readonly argv: (at: At) => readonly string[];
  /** The exit status, 0 unless given. */
  readonly status?: number;
  /** It changes nothing at all on disk. */
  readonly readOnly?: true;
}

/** What a file may hold that is none of ours. */
export type Rubbish = "random.img" | "zero.img" | "empty.img";

/** A place on the command line that takes an existing file. */
export interface Input {
  readonly title: string;
  /** The command line with that file there. */
  readonly argv: (at: At, file: string) => readonly string[];
  /** A sound file for that place. */
  readonly good: string;
  /** The text is a stack, in which a comma of a name is written `\,`. */
  readonly isStack?: true;
  /** Rubbish that is no error here, with the exit status it gives; anything else is refused with 4. */
  readonly takes?: Partial<Record<Rubbish, number>>;
}

/** A place that names a file to be made. */
export interface Output {
  readonly title: string;
  /** It is a new cowfile, beside which what its base is gets noted. */
  readonly hasNote?: true;
  /** Other files that the same command line makes. */
  readonly makes?: readonly string[];
  readonly argv: (at: At, output: string) => readonly string[];
}

/** Such a place, and an input that it must not be. */
export interface Collision {
  readonly title: string;
  readonly input: string;
  readonly argv: (at: At, output: string) => readonly string[];
}

export interface CommandRow {
  readonly runs: readonly Run[];
  readonly inputs: readonly Input[];
  readonly outputs: readonly Output[];
  readonly collisions: readonly Collision[];
  /** For a command with `--dry-run`: command lines without it, whose dry run must foretell the real one. */
  readonly foretold?: readonly Run[];
  /** A command line that reports progress. */
  readonly progress?: (at: At) => readonly string[];
  /** It speaks to a server: arguments with which it fails, as there is none. Its runs are in a test of their own. */
  readonly needsServer?: readonly string[];
  /** Arguments, in lower case, that name no files. */
  readonly names?: readonly string[];
  /** Its examples need what the machine may not have: a module of the kernel, a running server. */
  readonly needsMore?: true;
  /** It prints its result and goes on until a signal ends it: a file that is there once it can be ended, in its first run. */
  readonly stays?: (at: At) => string;
}
