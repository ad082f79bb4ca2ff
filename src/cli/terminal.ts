/**
 * Owns the three standard streams and the exit status of the process: everything cowtool prints or asks goes through
 * one Terminal, so that tests can stand in for it. Must not know what is printed.
 */
import type { Writable } from "node:stream";
import { systemError } from "../lib/errors.ts";
import { EXIT } from "./exit-codes.ts";

export interface Terminal {
  readonly stdoutIsTerminal: boolean;
  readonly stderrIsTerminal: boolean;
  readonly stdinIsTerminal: boolean;
  /** Width of stdout in characters, or what COLUMNS says; undefined where neither tells. */
  readonly columns: number | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The same of stderr, where a progress bar is drawn. */
  readonly errColumns: number | undefined;
  /** @returns false when the reader has gone: there is no use in writing more, and it is no error */
  writeOut(text: string): boolean | Promise<boolean>;
  /** As writeOut, for what is no text. */
  writeBytes(bytes: Uint8Array): boolean | Promise<boolean>;
  /** All of stdin; given up when the signal fires, so that the process need not wait for what may never come. */
  readBytes(signal: AbortSignal | undefined): AsyncIterable<Uint8Array>;
  writeErr(text: string): void;
  /** Asks on stderr, reads one line from stdin; undefined at its end. Rejects with an AbortError when `signal` fires. */
  readLine(question: string, signal: AbortSignal): Promise<string | undefined>;
  setExitCode(status: number): void;
}

/** Set once a standard stream failed: then no success is one. */
let failedStatus: number | undefined;

/**
 * A reader that closes the pipe early, such as `head`, ends our output but is no failure: what was to be written is
 * dropped and the exit status stays the one of the work itself.
 */
function watchForClosedPipe(stream: Writable, name: string): () => boolean {
  let isClosed = false;
  // oclif has a listener of its own, which throws what is no closed pipe: nobody could catch that.
  stream.removeAllListeners("error");
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (!isClosed && error.code !== "EPIPE") {
      // Whatever else happens, the result did not get where it was sent.
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
    // A file as stdout is written at once, and fails right here.
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
