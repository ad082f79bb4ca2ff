/**
 * Owns the safety of text from outside: a file name must neither move the cursor nor recolour the terminal nor break a
 * line. Must not change printable characters of any script.
 */

const NAMED: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

// C0, DEL, C1, line and paragraph separators, and the marks that reorder text (so that a name can't pose as another)
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

/** Shows control characters as `\n`, `\x1b`, `\u202e`. The result is one line. */
export function escapeControls(text: string): string {
  return text.replace(UNSAFE, (character) => {
    const code = character.charCodeAt(0).toString(16);
    return NAMED[character] ?? (code.length <= 2 ? `\\x${code.padStart(2, "0")}` : `\\u${code.padStart(4, "0")}`);
  });
}
