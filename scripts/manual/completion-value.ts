/**
 * Owns what the completions of all shells have in common: what may stand for a flag's value, and the header comment.
 */
import type { FlagRow } from "../../src/cli/command-row.ts";

/** `choice`: one of the flag's options; `nothing`: only the user knows; `file`: a file, or a stack of files. */
export type ValueKind = "choice" | "directory" | "file" | "nothing";

/** Names of values that no file name can stand for; whatever is not here is completed as a file or stack. */
const NO_FILES = new Set(["N", "SIZE", "COUNT", "HOST:PORT", "MODE", "LEVEL", "SECONDS", "NAME"]);

/** What to offer for a flag that takes a value. */
export function valueKind({ options, valueName }: FlagRow): ValueKind {
  if (options.length > 0) return "choice";
  if (valueName === "DIR") return "directory";
  return NO_FILES.has(valueName ?? "") ? "nothing" : "file";
}

export function takesValue({ valueName }: FlagRow): boolean {
  return valueName !== undefined;
}

/** As the text of a shell's single-quoted string. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** @param install what the user does with the file, one line each */
export function header(shell: string, install: readonly string[]): string {
  const lines = [
    `Completion of cowtool for ${shell}, made by "npm run man" from the commands: do not edit.`,
    ...install,
    "A stack, BASE,LAYER…, is completed after its last comma where no file begins with the whole word.".replace(
      "…",
      "...",
    ),
  ];
  return lines.map((line) => `# ${line}`).join("\n");
}
