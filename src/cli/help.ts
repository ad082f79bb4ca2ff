/**
 * Owns what `--help` prints, from the same table as the man pages. Must fit the terminal.
 */
import { type CommandRow, type FlagRow, HELP_FLAG, VERSION_FLAG } from "./command-row.ts";
import { EXIT, EXIT_WORDS } from "./exit-codes.ts";

const DEFAULT_COLUMNS = 80;
/** Longer lines are hard to read. */
const MOST_COLUMNS = 100;
const INDENT = 2;
/** A flag that is wider has its description on the next line. */
const WIDEST_TERM = 28;

type Entry = readonly [term: string, text: string];

function wrapped(text: string, room: number): string[] {
  const lines = [""];
  for (const word of text.split(" ")) {
    const last = lines.at(-1) ?? "";
    if (last !== "" && last.length + 1 + word.length > room) lines.push(word);
    else lines.splice(-1, 1, last === "" ? word : `${last} ${word}`);
  }
  return lines;
}

class Page {
  readonly #columns: number;
  #text = "";

  constructor(columns: number | undefined) {
    this.#columns = Math.min(columns ?? DEFAULT_COLUMNS, MOST_COLUMNS);
  }

  paragraph(text: string, indent = 0): this {
    for (const line of wrapped(text, this.#columns - indent)) this.#text += `${" ".repeat(indent)}${line}\n`;
    return this;
  }

  heading(title: string): this {
    this.#text += `\n${title}\n`;
    return this;
  }

  lines(lines: readonly string[]): this {
    for (const line of lines) this.#text += `${" ".repeat(INDENT)}${line}\n`;
    return this;
  }

  /** Terms in one column, their texts in another; left out where there are none. */
  list(title: string, entries: readonly Entry[]): this {
    if (entries.length === 0) return this;
    if (title !== "") this.heading(title);
    const width = Math.min(WIDEST_TERM, Math.max(...entries.map(([term]) => term.length)));
    const margin = " ".repeat(INDENT + width + 2);
    for (const [term, text] of entries) {
      const isWide = term.length > width;
      const [first = "", ...rest] = wrapped(text, Math.max(20, this.#columns - margin.length));
      const start = `${" ".repeat(INDENT)}${term.padEnd(width)}  `;
      this.#text += isWide ? `${start.trimEnd()}\n${margin}${first}\n` : `${start}${first}\n`;
      for (const line of rest) this.#text += `${margin}${line}\n`;
    }
    return this;
  }

  toString(): string {
    return this.#text.replace(/ +$/gm, "");
  }
}

/** `--map[=svg]`, `-o, --output FILE`: as it is typed. */
function flagTerm({ name, char, valueName, bareValue }: FlagRow): string {
  const value = valueName === undefined ? "" : bareValue === undefined ? ` ${valueName}` : `[=${valueName}]`;
  return `${char === undefined ? "    " : `-${char}, `}--${name}${value}`;
}

function flagEntry(flag: FlagRow): Entry {
  const isChoice = flag.options.length > 0 && flag.valueName !== flag.options.join("|");
  const facts = [
    ...(isChoice ? [`one of ${flag.options.join(", ")}`] : []),
    ...(flag.defaultValue === undefined ? [] : [`default ${flag.defaultValue}`]),
    ...(flag.bareValue === undefined ? [] : [`without a value ${flag.bareValue}`]),
    ...(flag.isRequired ? ["required"] : []),
    ...(flag.isRepeatable ? ["may be repeated"] : []),
  ];
  return [flagTerm(flag), `${flag.description}${facts.length > 0 ? ` [${facts.join("; ")}]` : ""}`];
}

function usageOf({ id, args, isVariadic, flags }: CommandRow): string {
  const required = flags.filter(({ isRequired }) => isRequired).map(({ name, valueName }) => `--${name} ${valueName}`);
  const places = args.map(({ name, required: isRequired }, index) => {
    const text = isVariadic && index === args.length - 1 ? `${name}…` : name;
    return isRequired ? text : `[${text}]`;
  });
  return ["cowtool", id, "[FLAGS]", ...required, ...places].join(" ");
}

function exitEntries(): Entry[] {
  return (Object.keys(EXIT) as (keyof typeof EXIT)[]).map((name) => [`${EXIT[name]}`, EXIT_WORDS[name]]);
}

/** @param columns of the terminal, if there is one */
export function commandHelp(row: CommandRow, columns: number | undefined): string {
  const flags = (isShared: boolean): Entry[] => row.flags.filter((flag) => flag.isShared === isShared).map(flagEntry);
  return new Page(columns)
    .paragraph(row.summary)
    .heading("USAGE")
    .lines([usageOf(row)])
    .list(
      "ARGUMENTS",
      row.args.map(({ name, description }) => [name, description]),
    )
    .list("FLAGS", flags(false))
    .list("FLAGS OF EVERY COMMAND", flags(true))
    .heading("DESCRIPTION")
    .paragraph(row.description, INDENT)
    .heading("EXAMPLES")
    .lines(row.examples.map((line) => `$ ${line}`))
    .list("EXIT STATUS", exitEntries())
    .heading("MORE")
    .paragraph(`man cowtool-${row.id} tells more, and cowtool --help has all commands.`, INDENT)
    .toString();
}

export interface Formats {
  readonly read: readonly string[];
  readonly written: readonly string[];
}

/** What `cowtool --help` prints. */
export function mainHelp(rows: readonly CommandRow[], formats: Formats, columns: number | undefined): string {
  return new Page(columns)
    .paragraph("cowtool creates, inspects, checks, repairs, merges, converts and serves copy-on-write disk images.")
    .heading("USAGE")
    .lines(["cowtool COMMAND [FLAGS] FILE…"])
    .list(
      "COMMANDS",
      rows.map(({ id, summary }) => [id, summary]),
    )
    .list("FLAGS", [flagEntry(HELP_FLAG), flagEntry(VERSION_FLAG)])
    .list("FORMATS", [
      ["reads", `${formats.read.join(", ")}; packed cowfiles; NBD exports by their URI`],
      ["writes", formats.written.join(", ")],
      ["a stack", "BASE,LAYER,… bottom to top, of any formats: golden.img,monday.cow,tuesday.qcow2"],
    ])
    .list("EXIT STATUS", exitEntries())
    .heading("MORE")
    .paragraph("cowtool COMMAND --help, man cowtool, man cowtool-COMMAND; man cowfile for the format.", INDENT)
    .toString();
}
