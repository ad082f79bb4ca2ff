/**
 * Owns what pages tell of the program, taken from where the program has it: options, exit statuses, error codes,
 * problems, the head's layout. In the dialect that roff.ts reads, or as Markdown tables for docs/.
 */
import { readFileSync } from "node:fs";
import type { CommandRow, FlagRow } from "../../src/cli/command-row.ts";
import { EXIT, exitOfCode } from "../../src/cli/exit-codes.ts";
import type { ErrorCode } from "../../src/lib/errors.ts";
import { ABI_NAMES, headLayout } from "../../src/lib/formats/cowfile/layout.ts";
import { COW_PROBLEMS } from "../../src/lib/formats/cowfile/problems.ts";
import { spellings } from "./command-table.ts";

export type ExitName = keyof typeof EXIT;

/** What each status means wherever a page has nothing more exact to say. */
const EXIT_MEANINGS: Readonly<Record<ExitName, string>> = {
  ok: "Done.",
  no: 'The answer is "no": differences, a mismatch, or something that **repair** can put right.',
  unsuitable:
    "An image is damaged, inconsistent or unsuitable, and was left unchanged; **repair** repaired what it could.",
  operational: "The system said no: no such file, no space, in use by another process, input/output error.",
  usage: "The command line is wrong, or a confirmation is needed and there is no terminal to ask on.",
  declined: "You answered No.",
  internal: "A bug in cowtool.",
  sigint: "Stopped by SIGINT, after cleaning up.",
  sigterm: "Stopped by SIGTERM, after cleaning up.",
};

/** Takes the meaning from marks in text that was written for another place. */
export function plain(text: string): string {
  return text.replace(/[\\`*]/g, "\\$&");
}

/** Words of the program as prose: flags and the names of arguments stand out. */
function phrase(text: string, names: readonly string[] = []): string {
  const isName = new Set(names);
  return plain(text)
    .replace(/(?<![\w-])--?[a-z][a-z-]*\b/g, "`$&`")
    .replace(/\b[A-Z]{3,}\b/g, (word) => (isName.has(word) ? `*${word}*` : word));
}

/** The same with a sentence's beginning and end. */
export function sentence(text: string, names: readonly string[] = []): string {
  const marked = phrase(text, names);
  const capital = marked.charAt(0).toUpperCase() + marked.slice(1);
  return /[.?!]$/.test(capital) ? capital : `${capital}.`;
}

export function valueNames({ args, flags }: Pick<CommandRow, "args" | "flags">): string[] {
  return [...args.map(({ name }) => name), ...flags.flatMap(({ valueName }) => valueName ?? [])];
}

/** What stands behind a flag's name: nothing, ` *FILE*`, or `[`=`*KIND*]`. */
function valueText({ valueName, bareValue }: FlagRow): string {
  if (valueName === undefined) return "";
  return bareValue === undefined ? ` *${valueName}*` : `[\`=\`*${valueName}*]`;
}

function optionText(flag: FlagRow, names: readonly string[]): string {
  const values = flag.options.map((option) => `\`${option}\``).join(", ");
  const facts = [
    sentence(flag.description, names),
    ...(values ? [`One of ${values}.`] : []),
    ...(flag.bareValue === undefined ? [] : [`Without a value: \`${flag.bareValue}\`.`]),
    ...(flag.defaultValue === undefined ? [] : [`Default: \`${flag.defaultValue}\`.`]),
    ...(flag.isRepeatable ? ["May be given more than once."] : []),
  ];
  return `${spellings(flag)
    .map((spelling) => `\`${spelling}\``)
    .join(", ")}${valueText(flag)}\n: ${facts.join(" ")}`;
}

export function argumentsText({ args, flags }: CommandRow): string {
  const names = valueNames({ args, flags });
  return args.map(({ name, description }) => `*${name}*\n: ${sentence(description, names)}`).join("\n\n");
}

export function optionsText(command: CommandRow): string {
  const names = valueNames(command);
  const texts = (isShared: boolean): string =>
    command.flags
      .filter((flag) => flag.isShared === isShared)
      .map((flag) => optionText(flag, names))
      .join("\n\n");
  return [texts(false), "### Options of every command", texts(true)].filter((text) => text !== "").join("\n\n");
}

function synopsisFlag(flag: FlagRow): string {
  const options = flag.options.map((option) => `\`${option}\``).join("|");
  const isChoice = options !== "" && flag.bareValue === undefined;
  const text = `\`${spellings(flag).at(0)}\`${isChoice ? ` ${options}` : valueText(flag)}`;
  return flag.isRequired ? text : `[${text}]`;
}

export function synopsisText({ id, args, isVariadic, flags }: CommandRow): string {
  const own = flags.filter(({ isShared }) => !isShared).map(synopsisFlag);
  const places = args.map(({ name, required }, index) => {
    const text = isVariadic && index === args.length - 1 ? `*${name}*...` : `*${name}*`;
    return required ? text : `[${text}]`;
  });
  return [`**cowtool** **${id}**`, ...own, "[*option*...]", ...places].join(" ");
}

export function exitStatusText(own: ReadonlyMap<ExitName, string>, shown: readonly ExitName[]): string {
  return shown.map((name) => `${EXIT[name]}\n: ${own.get(name) ?? EXIT_MEANINGS[name]}`).join("\n\n");
}

/** The problem table as definitions. */
export function problemsText(): string {
  return Object.entries(COW_PROBLEMS)
    .map(([id, spec]) => {
      const fix = "fix" in spec ? `Repair: ${phrase(spec.fix)}.` : "Repair cannot help.";
      return `\`${id}\` (${spec.severity})\n: ${plain(spec.about)} ${spec.severity === "note" && !("fix" in spec) ? "" : fix}`.trimEnd();
    })
    .join("\n\n");
}

/** `offset/size` of every field on every ABI. */
export function layoutRows(): readonly (readonly string[])[] {
  const head = ["field", ...ABI_NAMES, "meaning"];
  const rows = headLayout("le64").fields.map(({ name, meaning }, index) => [
    name,
    ...ABI_NAMES.map((abi) => {
      const placed = headLayout(abi).fields[index];
      return `${placed?.offsetBytes}/${placed?.sizeBytes}`;
    }),
    meaning,
  ]);
  const sizes = ["whole", ...ABI_NAMES.map((abi) => `0/${headLayout(abi).sizeBytes}`), "all bytes of the head"];
  return [head, ...rows, sizes];
}

/** Columns side by side, for a terminal. */
export function columnsText(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  return rows
    .map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  "))
    .map((line) => `    ${line.trimEnd()}`)
    .join("\n");
}

export function markdownTable(rows: readonly (readonly string[])[]): string {
  const [head = [], ...body] = rows;
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), `|${head.map(() => "---").join("|")}|`, ...body.map(line)].join("\n");
}

export function exitStatusRows(): readonly (readonly string[])[] {
  const unmarked = (text: string): string => text.replaceAll("**", "`");
  const rows = Object.entries(EXIT).map(([name, status]) => [
    String(status),
    unmarked(EXIT_MEANINGS[name as ExitName]).replace(/\.$/, ""),
  ]);
  return [["exit status", "meaning"], ...rows];
}

interface ErrorSchema {
  readonly properties: {
    readonly error: { readonly properties: { readonly code: { readonly enum: readonly string[] } } };
  };
}

/** Each error code with its exit status; the codes are those of the schema, which tests hold complete. */
export function errorCodeRows(): readonly (readonly string[])[] {
  const text = readFileSync(new URL("../../schemas/error.schema.json", import.meta.url), "utf8");
  const codes = (JSON.parse(text) as ErrorSchema).properties.error.properties.code.enum;
  const statusOf = (code: string): string => {
    if (code === "internal") return String(EXIT.internal);
    if (code === "interrupted") return `${EXIT.sigint} or ${EXIT.sigterm}`;
    return String(exitOfCode(code as ErrorCode));
  };
  return [["code", "exit status"], ...codes.map((code) => [`\`${code}\``, statusOf(code)])];
}

export function problemRows(): readonly (readonly string[])[] {
  const rows = Object.entries(COW_PROBLEMS).map(([id, spec]) => [
    `\`${id}\``,
    spec.severity,
    spec.about,
    "fix" in spec ? spec.fix : "",
  ]);
  return [["id", "severity", "what it is", "what `repair` does"], ...rows];
}
