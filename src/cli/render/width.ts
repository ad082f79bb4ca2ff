/**
 * Owns how many columns of a terminal a text takes: none for marks that combine, two for wide characters and emoji.
 */

/** Made when it is first needed: that takes a third of the time in which `info` is done. */
let graphemes: Intl.Segmenter | undefined;
/** Scripts of East Asia, their punctuation and full-width forms. */
const WIDE =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{1b000}-\u{1b2ff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}|\ufe0f/u;

/** @param text one line without control characters; see escape.ts */
export function displayWidth(text: string): number {
  if (/^[ -~]*$/.test(text)) return text.length;
  graphemes ??= new Intl.Segmenter("en", { granularity: "grapheme" });
  let width = 0;
  for (const { segment } of graphemes.segment(text))
    width += /^\p{M}+$/u.test(segment) ? 0 : WIDE.test(segment) ? 2 : 1;
  return width;
}
