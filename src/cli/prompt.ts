/**
 * Owns the one question that cowtool asks: may this dangerous thing be done? Must not know `--force`: that overrides
 * checks, and only `--yes` answers a prompt.
 */
import { CowError } from "../lib/errors.ts";
import { escapeControls } from "./render/escape.ts";
import type { Terminal } from "./terminal.ts";

export interface Confirmation {
  /** The file that is at stake, named in an error. */
  readonly file: string;
  /** What will happen, as a question without the answers: `write 12 blocks into base.img?` */
  readonly question: string;
  /** `--yes` was given. */
  readonly yes: boolean;
  /** `--json` was given: a program is asking, and there is no one to answer. */
  readonly json: boolean;
}

/**
 * Returns when the answer is yes. The default is No, and so is the end of input.
 *
 * @throws CowError `needs-confirmation` if there is no terminal to ask on, `declined` on any other answer, `interrupted`
 */
export async function confirm(terminal: Terminal, signal: AbortSignal, asked: Confirmation): Promise<void> {
  if (asked.yes) return;
  const { file } = asked;
  if (asked.json || !terminal.stdinIsTerminal || !terminal.stderrIsTerminal) {
    throw new CowError("needs-confirmation", `confirmation needed: ${asked.question}`, {
      file,
      hints: ["--yes confirms it where there is no terminal to ask on"],
    });
  }
  let answer: string | undefined;
  try {
    answer = await terminal.readLine(`cowtool: ${escapeControls(asked.question)} [y/N] `, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
    terminal.writeErr("\n");
    throw new CowError("interrupted", "interrupted: nothing has been changed", { file, cause: error });
  }
  // Without an answer there was no newline from the user either.
  if (answer === undefined) terminal.writeErr("\n");
  if (!/^y(es)?$/i.test(answer?.trim() ?? "")) {
    throw new CowError("declined", "declined: nothing has been changed", { file });
  }
}
