/**
 * Owns the way from prose to man(7): a small, strict dialect of Markdown in, roff out. What it does not know is an error,
 * never passed through, so that no stray character becomes a request.
 *
 *     ## SECTION                     ### Subsection
 *     `code` and **bold** are bold, *word* is italic, a backslash takes the meaning from the next character
 *     - an item                      (one paragraph; the following lines are indented)
 *     `term`                         (a definition: the term on one line,
 *     : what it is                    then a colon; the following lines are indented)
 *         four spaces: shown as it is
 */

const CHARACTERS: Readonly<Record<string, string>> = {
  "\\": "\\e",
  '"': "\\(dq",
  "^": "\\(ha",
  "~": "\\(ti",
  "…": "...",
  "→": "\\(->",
  "×": "\\(mu",
  "≤": "\\(<=",
  "≥": "\\(>=",
  "‖": "|",
};

/** In code a hyphen is one that can be copied to a shell, and quotes stay straight. */
const CODE_CHARACTERS: Readonly<Record<string, string>> = { "-": "\\-", "'": "\\(aq", "`": "\\(ga" };

function escapeCharacters(text: string, isCode: boolean): string {
  return text.replace(/[^A-Za-z0-9 \n]/gu, (character) => {
    const code = isCode ? CODE_CHARACTERS[character] : undefined;
    const escaped = code ?? CHARACTERS[character] ?? character;
    if (/[^\x20-\x7e]/.test(escaped)) throw new Error(`no roff for ${JSON.stringify(character)} in ${text}`);
    return escaped;
  });
}

/** A line that begins with a dot or a quote would be a request. */
function guarded(line: string): string {
  return /^[.']/.test(line) ? `\\&${line}` : line;
}

const INLINE = /\\([\s\S])|`([^`]+)`|\*\*([^*]+)\*\*|\*([^*]+)\*/g;

function inline(text: string): string {
  let out = "";
  let at = 0;
  const plain = (part: string): string => {
    if (/[`*]/.test(part)) throw new Error(`an unpaired mark in: ${text}`);
    return escapeCharacters(part, false);
  };
  for (const match of text.matchAll(INLINE)) {
    const [whole, literal, code, bold, italic] = match;
    out += plain(text.slice(at, match.index));
    at = match.index + whole.length;
    if (literal !== undefined) out += escapeCharacters(literal, false);
    else if (code !== undefined) out += `\\fB${escapeCharacters(code, true)}\\fR`;
    else if (bold !== undefined) out += `\\fB${escapeCharacters(bold, true)}\\fR`;
    else out += `\\fI${escapeCharacters(italic ?? "", true)}\\fR`;
  }
  return out + plain(text.slice(at));
}

function paragraph(lines: readonly string[]): string {
  // Marks may reach over a line's end, so that all lines are taken as one text.
  return inline(lines.map((line) => line.trim()).join("\n"))
    .split("\n")
    .map(guarded)
    .join("\n");
}

function shownAsItIs(lines: readonly string[]): string[] {
  const code = lines.map((line) => guarded(escapeCharacters(line.slice(4), true)));
  return [".PP", ".RS 4", ".EX", ...code, ".EE", ".RE"];
}

function items(lines: readonly string[]): string[] {
  const texts: string[][] = [];
  for (const line of lines) {
    if (line.startsWith("- ")) texts.push([line.slice(2)]);
    else texts.at(-1)?.push(line);
  }
  return texts.flatMap((text) => [".IP \\(bu 2", paragraph(text)]);
}

function definition([term = "", first = "", ...rest]: readonly string[]): string[] {
  return [".TP", guarded(inline(term)), paragraph([first.slice(2), ...rest])];
}

/** Blocks: what empty lines separate; empty lines within shown text belong to it. */
function blocksOf(text: string): string[][] {
  const blocks: string[][] = [];
  for (const block of text.split(/\n(?:[ ]*\n)+/).map((part) => part.split("\n").filter((line) => line !== ""))) {
    const previous = blocks.at(-1);
    if (block.length === 0) continue;
    if (previous && [...previous, ...block].every((line) => line === "" || line.startsWith("    ")))
      previous.push("", ...block);
    else blocks.push(block);
  }
  return blocks;
}

function blockToRoff(block: readonly string[], isFirst: boolean): string[] {
  const [first = "", second = ""] = block;
  if (first.startsWith("    ")) return shownAsItIs(block).slice(isFirst ? 1 : 0);
  if (first.startsWith("- ")) return items(block);
  if (second.startsWith(": ")) return definition(block);
  if (/^[#|>!]|^\d+\. /.test(first)) throw new Error(`not in the dialect: ${first}`);
  return isFirst ? [paragraph(block)] : [".PP", paragraph(block)];
}

/** The body of one section. */
function bodyToRoff(text: string): string[] {
  const lines: string[] = [];
  let isFirst = true;
  for (const block of blocksOf(text)) {
    const [first = ""] = block;
    if (first.startsWith("### ")) {
      lines.push(`.SS ${escapeCharacters(first.slice(4), false)}`);
      isFirst = true;
      if (block.length > 1) throw new Error(`an empty line is missing after: ${first}`);
      continue;
    }
    lines.push(...blockToRoff(block, isFirst));
    isFirst = false;
  }
  return lines;
}

export interface PageTitle {
  readonly name: string;
  readonly section: 1 | 5 | 8;
  /** For `man -k`, in one line. */
  readonly summary: string;
  /** ISO date of the text. */
  readonly date: string;
  /** `cowtool 0.1.0` */
  readonly source: string;
}

/** Sections in the order in which they stand on the page. */
export type Sections = ReadonlyMap<string, string>;

/** The whole page. */
export function pageToRoff(title: PageTitle, sections: Sections): string {
  const manual = { 1: "User Commands", 5: "File Formats", 8: "System Administration" }[title.section];
  const lines = [
    `.\\" Made by "npm run man" from the commands and from man/prose: do not edit.`,
    `.TH ${title.name.toUpperCase()} ${title.section} "${title.date}" "${title.source}" "${manual}"`,
    ".SH NAME",
    `${title.name} \\- ${escapeCharacters(title.summary, false)}`,
  ];
  for (const [heading, text] of sections) {
    lines.push(`.SH ${escapeCharacters(heading, false)}`, ...bodyToRoff(text));
  }
  return `${lines.join("\n")}\n`;
}
