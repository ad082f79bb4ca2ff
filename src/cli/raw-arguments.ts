/**
 * Owns arguments that are not UTF-8. Node decodes the command line before cowtool sees it: bytes that are not UTF-8
 * become U+FFFD, and two different file names may become one. Such names cannot be opened here, so they are refused, in
 * the bytes that were given. Must not judge anything else about an argument.
 */
import { readFileSync } from "node:fs";
import { showBytes } from "../lib/bytes/utf8.ts";
import { CowError } from "../lib/errors.ts";

const REPLACEMENT = "\ufffd";

/** The bytes of all arguments, as the kernel keeps them; undefined on systems that do not show them. */
function commandLine(): Uint8Array | undefined {
  try {
    return readFileSync("/proc/self/cmdline");
  } catch {
    return undefined;
  }
}

/**
 * @param argv the arguments as node decoded them
 * @param line the process's command line, every word ended by a NUL
 * @throws CowError `usage` for an argument that is not UTF-8, or where that cannot be told
 */
export function requireUtf8(argv: readonly string[], line: () => Uint8Array | undefined = commandLine): void {
  if (!argv.some((word) => word.includes(REPLACEMENT))) return;
  const words = Buffer.from(line() ?? [])
    .toString("latin1")
    .split("\0")
    .slice(0, -1);
  const given = words.slice(-argv.length).map((word) => Buffer.from(word, "latin1"));
  for (const [i, word] of argv.entries()) {
    const bytes = given[i];
    // The character itself may be meant: then its own bytes were given.
    if (!word.includes(REPLACEMENT) || bytes?.equals(Buffer.from(word))) continue;
    throw new CowError("usage", `an argument is not UTF-8: ${bytes ? showBytes(bytes) : word}`, {
      hints: ["cowtool takes file names in UTF-8 only: rename the file, or make a link to it under another name"],
    });
  }
}
