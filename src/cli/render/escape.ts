/**
 * Owns escaping text from outside: a file name must not move the cursor, recolour the terminal or break a line, nor
 * hide or reorder text. Must not change visible characters of any script.
 */

const NAMED: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

// Controls, separators of lines and paragraphs, halves of surrogate pairs, and invisible characters: marks that reorder
// text, zero-width characters, fillers, the empty Braille pattern, variation selectors, tags. With them one name can
// look like another.
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/gu;

/** Shows such characters as `\n`, `\x1b`, `\u202e`, `\u{e0041}`. The result is one line. */
export function escapeControls(text: string): string {
  return text.replace(UNSAFE, (character) => {
    const code = (character.codePointAt(0) ?? 0).toString(16);
    if (code.length > 4) return `\\u{${code}}`;
    return NAMED[character] ?? (code.length <= 2 ? `\\x${code.padStart(2, "0")}` : `\\u${code.padStart(4, "0")}`);
  });
}

/** The same for the text of a JSON string, which keeps its meaning. */
export function escapeInJson(json: string): string {
  return json.replace(UNSAFE, (character) =>
    Array.from(
      { length: character.length },
      (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, "0")}`,
    ).join(""),
  );
}
