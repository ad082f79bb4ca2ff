/**
 * Owns how a failure is told: exit status, lines on stderr, JSON on stdout. The only place that knows both errors and
 * streams. Must not show a stack trace unless DEBUG is set.
 */
import { CowError, type ErrorDetails } from "../lib/errors.ts";
import { commaHints } from "./comma-hint.ts";
import { EXIT, exitOfCode, type StopSignal } from "./exit-codes.ts";
import { mayColour, paint, type Severity } from "./render/colour.ts";
import { escapeControls } from "./render/escape.ts";
import { writeJson } from "./render/json.ts";
import type { Terminal } from "./terminal.ts";
import { asUsageError } from "./usage-error.ts";

/** The JSON of a failure, with the house's key names. */
interface ErrorReport {
  readonly code: string;
  readonly message: string;
  readonly details: ErrorDetails;
  readonly hints: readonly string[];
  readonly exit_code: number;
}

export interface ReportOptions {
  readonly terminal: Terminal;
  readonly json: boolean;
  /** stdout carries, or was to carry, something else: JSON goes to stderr, too. */
  readonly toStderr?: boolean;
  readonly noColour: boolean;
  /** The command line, for hints that depend on how something was written. */
  readonly argv?: readonly string[];
  /** For usage errors: the command line that shows how it is done. */
  readonly help: string;
  readonly signal?: StopSignal | undefined;
}

/** `--json` as given on a command line that could not be parsed. */
export function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  return argv.slice(0, end === -1 ? undefined : end).includes("--json");
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

function reportOf(
  error: unknown,
  cowError: CowError | undefined,
  { signal, argv = [] }: Pick<ReportOptions, "signal" | "argv">,
): ErrorReport {
  if (cowError) {
    const { code, message, details } = cowError;
    const hints = [...cowError.hints, ...commaHints(cowError, argv)];
    return { code, message, details, hints, exit_code: exitOfCode(code, signal) };
  }
  const text = error instanceof Error ? error.message : String(error);
  const message = `internal error: ${text} (a bug in cowtool)`;
  const hints = ["run it again with DEBUG=cowtool in the environment to see where, and report it"];
  return { code: "internal", message, details: {}, hints, exit_code: EXIT.internal };
}

/** Tells the failure on the right stream and sets the exit status. */
export async function reportError(error: unknown, options: ReportOptions): Promise<void> {
  const { terminal, json, toStderr } = options;
  const cowError = error instanceof CowError ? error : asUsageError(error, options.help);
  const report = reportOf(error, cowError, options);
  terminal.setExitCode(report.exit_code);
  if (json) {
    await writeJson({ error: report }, (text) => {
      if (!toStderr) return terminal.writeOut(text);
      terminal.writeErr(text);
      return true;
    });
  } else {
    writeNotice(options, "error", cowError?.file, report.message);
    for (const hint of report.hints) writeNotice(options, "hint", undefined, hint);
  }
  if (terminal.env["DEBUG"]) terminal.writeErr(`${error instanceof Error ? error.stack : String(error)}\n`);
}
