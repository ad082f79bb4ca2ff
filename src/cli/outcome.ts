/**
 * Owns what a command hands back: its result for programs and for people, and its exit status. Must not know any command.
 */
import type { OperationContext } from "../lib/context.ts";
import type { GivenStack } from "../lib/operations/files.ts";
import type { Row } from "./render/table.ts";
import type { Text } from "./render/text.ts";

export interface Outcome {
  /**
   * The JSON result: snake_case keys; bigints, generators (sync or async) and objects with toJSON are welcome. It is
   * written before signals and progress are let go, so a generator in it may read from files. undefined: nothing (more)
   * is to be printed; see `announce`.
   */
  readonly result: object | undefined;
  readonly exitCode: number;
  /** The result goes to stderr, since stdout carries something else. */
  readonly toStderr?: boolean;
  /** The text only says that all is well, with the exit status 0: `-q` drops it. */
  readonly isReassurance?: boolean;
  /** The work is done while the result is written, and continues when the reader has gone. */
  readonly outlivesReader?: boolean;
  /** The same for people; only called without `--json`. */
  readonly render: () => Text | Promise<Text>;
}

/** What became of one file, alone or among others. */
export interface FileOutcome extends Outcome {
  readonly result: object;
  /** Its cells under the columns of the table. */
  readonly row: Row;
  /** What it is called under RESULT, where the table's word for its exit status says too little. */
  readonly word?: string | undefined;
}

/** A command's work on one file. @param base what all are compared with, if anything */
export type OneFile = (file: string, base: GivenStack | undefined, context: OperationContext) => Promise<FileOutcome>;

export interface FileTable {
  /** The columns behind FILE and RESULT. The last one has room: an error's message goes there. */
  readonly header: readonly string[];
  /** What each exit status without an error is called under RESULT, and in the line that sums up. */
  readonly words: Readonly<Record<number, string>>;
}
