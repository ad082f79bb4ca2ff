/**
 * Owns the three standard streams and the exit status of the process: everything cowtool prints or asks goes through
 * one Terminal, which tests can replace. Must not know what is printed.
 */
import type { Writable } from "node:stream";
import { systemError } from "../lib/errors.ts";
import { EXIT } from "./exit-codes.ts";

export interface Terminal {
  readonly stdoutIsTerminal: boolean;
  readonly stderrIsTerminal: boolean;
  readonly stdinIsTerminal: boolean;
  /** Width of stdout in characters; undefined if stdout is not a terminal. */
  readonly columns: number | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The same of stderr, where a progress bar is drawn. */
  readonly errColumns: number | undefined;
  /** @returns false when the reader has gone: no more need be written, and it is no error */
  writeOut(text: string): boolean | Promise<boolean>;
  /** As writeOut, for binary data. */
  writeBytes(bytes: Uint8Array): boolean | Promise<boolean>;
  /** All of stdin; ends when the signal fires, so that the process need not wait for input. */
  readBytes(signal: AbortSignal | undefined): AsyncIterable<Uint8Array>;
  writeErr(text: string): void;
  /** Asks on stderr, reads one line from stdin; undefined at its end. Rejects with an AbortError when `signal` fires. */
  readLine(question: string, signal: AbortSignal): Promise<string | undefined>;
  setExitCode(status: number): void;
}

/** Set once a standard stream failed: then the command did not succeed. */
let failedStatus: number | undefined;

/**
 * A reader that closes the pipe early, such as `head`, ends our output but is no failure: the rest is dropped, and the
 * exit status is that of the work.
 */
function watchForClosedPipe(stream: Writable, name: string): () => boolean {
  let isClosed = false;
  // oclif's own listener throws other errors than a closed pipe, and they could not be caught.
  stream.removeAllListeners("error");
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (!isClosed && error.code !== "EPIPE") {
      // The result was not delivered.
      failedStatus = EXIT.operational;
      process.exitCode = failedStatus;
      const { message } = systemError(error, name, "cannot write");
      if (stream !== process.stderr) process.stderr.write(`cowtool: error: ${name}: ${message}\n`);
    }
    isClosed = true;
  });
  return () => isClosed || stream.destroyed;
}

async function readLine(question: string, signal: AbortSignal): Promise<string | undefined> {
  const { createInterface } = await import("node:readline/promises");
  // `terminal: false` leaves the terminal in line mode, where Ctrl-C is a SIGINT that our own handler gets.
  const lines = createInterface({ input: process.stdin, output: process.stderr, terminal: false });
  try {
    const atEnd = new Promise<undefined>((resolve) => lines.once("close", () => resolve(undefined)));
    return await Promise.race([lines.question(question, { signal }), atEnd]);
  } finally {
    lines.close();
  }
}

function writeToStdout(data: string | Uint8Array, isClosed: () => boolean): boolean | Promise<boolean> {
  if (isClosed()) return false;
  let mayGoOn: boolean;
  try {
    mayGoOn = process.stdout.write(data);
  } catch (error) {
    // A file as stdout is written synchronously, and fails here.
    throw systemError(error, "stdout", "cannot write");
  }
  if (mayGoOn) return true;
  return new Promise((resolve) => {
    const done = () => {
      process.stdout.off("drain", done).off("error", done).off("close", done);
      resolve(!isClosed());
    };
    process.stdout.once("drain", done).once("error", done).once("close", done);
  });
}

let current: Terminal | undefined;

/** The terminal of this process, made once: its stream handlers must not pile up. */
export function processTerminal(): Terminal {
  if (current) return current;
  const stdoutIsClosed = watchForClosedPipe(process.stdout, "stdout");
  const stderrIsClosed = watchForClosedPipe(process.stderr, "stderr");
  current = {
    stdoutIsTerminal: process.stdout.isTTY === true,
    stderrIsTerminal: process.stderr.isTTY === true,
    stdinIsTerminal: process.stdin.isTTY === true,
    get columns() {
      const asked = Number(process.env["COLUMNS"]);
      if (Number.isSafeInteger(asked) && asked > 0) return asked;
      return process.stdout.isTTY ? process.stdout.columns : undefined;
    },
    get errColumns() {
      return process.stderr.isTTY ? process.stderr.columns : undefined;
    },
    env: process.env,
    writeOut: (text) => writeToStdout(text, stdoutIsClosed),
    writeBytes: (bytes) => writeToStdout(bytes, stdoutIsClosed),
    readBytes(signal) {
      signal?.addEventListener("abort", () => process.stdin.destroy(), { once: true });
      return process.stdin;
    },
    writeErr(text) {
      if (!stderrIsClosed()) process.stderr.write(text);
    },
    readLine,
    setExitCode(status) {
      process.exitCode = failedStatus ?? status;
    },
  };
  return current;
}
