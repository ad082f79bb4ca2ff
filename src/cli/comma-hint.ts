/**
 * Owns the hint for a file whose name has a comma, which separates the parts of a stack. Must only be asked once
 * something has failed: a stack is a stack, whatever files there are.
 */
import { existsSync } from "node:fs";
import type { CowError } from "../lib/errors.ts";

/** A word, and what may be a stack in it: `--rdofile=STACK`, `NAME=STACK`, `FORMAT:SETTING;STACK`. */
function* stacksIn(word: string): Generator<string> {
  yield word;
  for (const { index } of word.matchAll(/[=:;]/g)) yield word.slice(index + 1);
}

/** Files whose names have commas: what parts of a stack become when they are put together again. */
function* filesIn(stack: string): Generator<string> {
  const parts = stack.split(",");
  for (let first = 0; first < parts.length; first++)
    for (let end = first + 2; end <= parts.length; end++) {
      const file = parts.slice(first, end).join(",");
      if (existsSync(file)) yield file;
    }
}

/** Is the failure about a part of that stack, or about its commas? */
function isAbout({ file, code, message }: CowError, stack: string): boolean {
  return file === undefined ? code === "usage" && message.includes(stack) : stack.split(",").includes(file);
}

/** How to write the name of a file that was taken apart at its commas. */
export function commaHints(error: CowError, argv: readonly string[]): readonly string[] {
  for (const word of argv) {
    // Of many files that fail, each asks about all words.
    if (!word.includes(",")) continue;
    for (const stack of stacksIn(word)) {
      if (!stack.includes(",") || stack.includes("\\,")) continue;
      const file = [...filesIn(stack)].find((each) => isAbout(error, each));
      if (file === undefined) continue;
      const escaped = file.replaceAll(",", "\\,");
      return [`a comma separates the parts of a stack: in the name of a file it is written as '${escaped}'`];
    }
  }
  return [];
}
