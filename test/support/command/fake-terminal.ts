/**
 * Owns a Terminal without a terminal: it records what is written and answers what is asked.
 */
import type { Terminal } from "../../../src/cli/terminal.ts";

export interface FakeTerminal extends Terminal {
  readonly out: () => string;
  readonly bytesOut: () => Buffer;
  readonly err: () => string;
  readonly questions: readonly string[];
  readonly exitCode: () => number | undefined;
}

export interface FakeTerminalOptions {
  /** All three streams are terminals. */
  readonly isTerminal?: boolean;
  /** Lines on stdin; when they are used up, stdin is at its end. */
  readonly answers?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  columns?: number;
  /** What stdin holds, for those who read bytes. */
  readonly input?: Uint8Array;
  /** The reader goes away after so many pieces of output. */
  readonly closesAfter?: number;
}

export function fakeTerminal(options: FakeTerminalOptions = {}): FakeTerminal {
  const { isTerminal = false, answers = [], env = {}, columns, closesAfter = Number.POSITIVE_INFINITY } = options;
  const out: string[] = [];
  const err: string[] = [];
  const bytesOut: Uint8Array[] = [];
  const questions: string[] = [];
  let exitCode: number | undefined;
  return {
    stdoutIsTerminal: isTerminal,
    stderrIsTerminal: isTerminal,
    stdinIsTerminal: isTerminal,
    columns,
    get errColumns() {
      return options.columns;
    },
    env,
    writeOut(text) {
      if (out.length >= closesAfter) return false;
      out.push(text);
      return true;
    },
    writeBytes(bytes) {
      bytesOut.push(bytes);
      return true;
    },
    async *readBytes() {
      if (options.input) yield options.input;
    },
    writeErr: (text) => void err.push(text),
    async readLine(question, signal) {
      signal.throwIfAborted();
      questions.push(question);
      return answers[questions.length - 1];
    },
    setExitCode: (status) => {
      exitCode = status;
    },
    out: () => out.join(""),
    bytesOut: () => Buffer.concat(bytesOut),
    err: () => err.join(""),
    questions,
    exitCode: () => exitCode,
  };
}
