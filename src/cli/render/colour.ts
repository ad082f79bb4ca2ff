/**
 * Owns colour: severity words only, on a terminal only. Must never colour output for programs.
 */

/** The words that start a line on stderr or a row in a report of problems. */
export type Severity = "error" | "warning" | "note" | "hint";

const SGR: Readonly<Record<Severity, string>> = { error: "1;31", warning: "1;33", note: "1;36", hint: "1;36" };

export interface ColourQuestion {
  readonly isTerminal: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** `--no-color` was given. */
  readonly noColour: boolean;
}

/** NO_COLOR counts when set to anything but the empty string (no-color.org). */
export function mayColour({ isTerminal, env, noColour }: ColourQuestion): boolean {
  return isTerminal && !noColour && !env["NO_COLOR"] && env["TERM"] !== "dumb";
}

/** `text`, in the colour of its severity when `isOn`. */
export function paint(severity: Severity, text: string, isOn: boolean): string {
  return isOn ? `\u001b[${SGR[severity]}m${text}\u001b[0m` : text;
}
