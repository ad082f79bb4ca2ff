/**
 * Owns reporting a failure: exit status, lines on stderr, JSON on stdout. The only place that knows both errors and
 * streams. Must not show a stack trace unless DEBUG is set.
 */
import { CowError, type ErrorDetails } from "../lib/errors.ts";
import { commaHints } from "./comma-hint.ts";
import { EXIT, exitOfCode, type StopSignal } from "./exit-codes.ts";
import { flagHabits, formatHabit } from "./habits.ts";
import { mayColour, paint, type Severity } from "./render/colour.ts";
import { escapeControls } from "./render/escape.ts";
import { type JsonMode, writeJson } from "./render/json.ts";
import type { Terminal } from "./terminal.ts";
import { asUsageError } from "./usage-error.ts";

/** The JSON of a failure, with the house's key names. */
export interface ErrorReport {
  readonly code: string;
  readonly message: string;
  readonly details: ErrorDetails;
  readonly hints: readonly string[];
  readonly exit_code: number;
}

export interface ReportOptions {
  readonly terminal: Terminal;
  readonly json: JsonMode | undefined;
  /** stdout carries data: JSON goes to stderr, too. */
  readonly toStderr?: boolean;
  readonly noColour: boolean;
  /** The command line, for hints that depend on it. */
  readonly argv?: readonly string[];
  /** Further ways out, looked for once something has failed. */
  readonly moreHints?: () => Promise<readonly string[]>;
  /** Undefined before there is one. */
  readonly command?: string | undefined;
  /** For usage errors: the command that shows the help. */
  readonly help: string;
  /** The flags that there are, without dashes, for hints. */
  readonly flags?: readonly string[];
  readonly signal?: StopSignal | undefined;
}

/** `--json` as given on a command line that could not be parsed. */
export function wantsJson(argv: readonly string[]): JsonMode | undefined {
  const end = argv.indexOf("--");
  const words = argv.slice(0, end === -1 ? undefined : end);
  return words.includes("--json=lines")
    ? "lines"
    : words.some((word) => /^--json(=|$)/.test(word))
      ? "document"
      : undefined;
}

export function wantsNoColour(argv: readonly string[]): boolean {
  return argv.includes("--no-color");
}

/** One line on stderr: `cowtool: warning: <file>: <message>`. */
export function writeNotice(
  { terminal, noColour }: Pick<ReportOptions, "terminal" | "noColour">,
  severity: Severity,
  file: string | undefined,
  message: string,
): void {
  const isOn = mayColour({ isTerminal: terminal.stderrIsTerminal, env: terminal.env, noColour });
  const about = file === undefined ? "" : `${file === "" ? '""' : escapeControls(file)}: `;
  terminal.writeErr(`cowtool: ${paint(severity, severity, isOn)}: ${about}${escapeControls(message)}\n`);
}

/** A failure with all of its facts. */
export interface Failure extends ErrorReport {
  /** The file that it is about. */
  readonly file: string | undefined;
}

export async function failureOf(
  error: unknown,
  {
    help,
    signal,
    command,
    argv = [],
    flags = [],
    moreHints,
  }: Pick<ReportOptions, "help" | "signal" | "command" | "argv" | "flags" | "moreHints">,
): Promise<Failure> {
  const cowError = error instanceof CowError ? error : asUsageError(error, help, flags);
  if (cowError) {
    const { code, message, details, file } = cowError;
    const mayShare = code === "locked" && flags.includes("force-share") && !argv.includes("--force-share");
    const share = mayShare ? ["--force-share reads it anyway: what it shows may be out of date at once"] : [];
    const habits = command !== undefined && code === "usage" ? flagHabits(command, argv) : [];
    const format = code === "not-found" && file !== undefined ? formatHabit(argv, file) : [];
    const hints = [
      ...habits,
      ...format,
      ...cowError.hints,
      ...share,
      ...commaHints(cowError, argv),
      ...((await moreHints?.()) ?? []),
    ];
    return { code, message, details, hints, exit_code: exitOfCode(code, signal), file };
  }
  const text = error instanceof Error ? error.message : String(error);
  const message = `internal error: ${text} (a bug in cowtool)`;
  const hints = ["run it again with DEBUG=cowtool in the environment to see where, and report it"];
  return { code: "internal", message, details: {}, hints, exit_code: EXIT.internal, file: undefined };
}

/** The failure with the house's key names. */
export function failureAsJson({ code, message, details, hints, exit_code }: Failure): ErrorReport {
  return { code, message, details, hints, exit_code };
}

/** Lines on stderr: the error, and the ways out. */
export function writeFailure(
  options: Pick<ReportOptions, "terminal" | "noColour">,
  { file, message, hints }: Pick<Failure, "file" | "message" | "hints">,
): void {
  writeNotice(options, "error", file, message);
  for (const hint of hints) writeNotice(options, "hint", undefined, hint);
}

/** Reports the failure on the right stream and sets the exit status. */
export async function reportError(error: unknown, options: ReportOptions): Promise<void> {
  const { terminal, json, toStderr } = options;
  const failure = await failureOf(error, options);
  terminal.setExitCode(failure.exit_code);
  if (json) {
    const sink = (text: string): boolean | Promise<boolean> => {
      if (!toStderr) return terminal.writeOut(text);
      terminal.writeErr(text);
      return true;
    };
    await writeJson({ error: failureAsJson(failure) }, sink, json);
  } else writeFailure(options, failure);
  if (terminal.env["DEBUG"]) terminal.writeErr(`${error instanceof Error ? error.stack : String(error)}\n`);
}
