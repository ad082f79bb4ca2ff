/**
 * Owns one part of a stack: as users write it, `[FORMAT:[NAME=VALUE;|FLAG;]…]PATH[;PATH]…`, and as a value. Only known
 * formats count as FORMAT; any other text with a colon is a path. Opens nothing.
 */
import { CowError, shellWord } from "../errors.ts";
import type { LayerFormat } from "../formats/format.ts";
import { formatById } from "../formats/registry.ts";

/** A base that is read as it is: not in the registry, because it is not a format of layers. */
export const RAW = "raw";
/** A stack file: spec.ts puts its parts in its place. */
export const STACK_FILE = "stack";

/** No real part has more logs or settings; this bounds the command line as well. */
const MAX_FIELDS = 1024;

/** A frozen layer with a name. */
export interface Checkpoint {
  readonly name: string;
  /** When it was made, in ISO 8601. */
  readonly time: string;
  readonly note?: string;
}

/** What a stack file says about a part. */
export interface Listed {
  /** The stack file, as the user named it. */
  readonly by: string;
  readonly checkpoint?: Checkpoint;
  /** Other stack files name it, too. */
  readonly isShared: boolean;
}

/** One part of a stack: a base or a layer. */
export interface StackPart {
  /** As it was written. */
  readonly text: string;
  /** The named format; `raw` for a raw image; undefined if the file decides. */
  readonly format: LayerFormat | typeof RAW | undefined;
  /** By name; flags have an empty value. */
  readonly settings: ReadonlyMap<string, string>;
  /** Its first or only file. */
  readonly path: string;
  /** Further files, in order. */
  readonly more: readonly string[];
  /** Of a part that a stack file names. */
  readonly listed?: Listed;
}

/** The format that a part names, and the rest; all of the text if it names none. */
export function formatIn(text: string): {
  readonly format: StackPart["format"];
  readonly rest: string;
  readonly isStackFile: boolean;
} {
  const colon = text.indexOf(":");
  const id = colon < 0 ? "" : text.slice(0, colon);
  const isStackFile = id === STACK_FILE;
  const format = id === RAW ? RAW : formatById(id);
  return { format, rest: format === undefined && !isStackFile ? text : text.slice(colon + 1), isStackFile };
}

/**
 * Takes a part apart.
 *
 * @throws CowError `usage` for settings that the format does not know, a missing path, or more files than it takes
 */
export function parsePart(text: string): StackPart {
  const { format, rest, isStackFile } = formatIn(text);
  if (isStackFile)
    throw new CowError("usage", `"${text}" is a stack file, a base with its layers: here, one file is expected`, {
      hints: [`\`cowtool info ${shellWord(text)}\` shows its layers, of which each can be named`],
    });
  if (format === undefined) return { text, format, settings: new Map(), path: text, more: [] };
  // A raw image has no settings: everything that follows is its name.
  const fields = format === RAW ? [rest] : splitFields(rest);
  const settings = new Map<string, string>();
  let at = 0;
  for (; at < fields.length; at++) {
    const field = fields[at] ?? "";
    // The last field is always a file, unless it can only be a setting.
    if (format === RAW || (at === fields.length - 1 && !field.includes("="))) break;
    const setting = settingIn(field, format, text);
    if (!setting) break;
    if (settings.has(setting[0])) throw new CowError("usage", `"${text}" says ${setting[0]} twice`);
    settings.set(...setting);
  }
  const [path, ...more] = fields.slice(at);
  if (path === undefined || path === "" || more.includes(""))
    throw new CowError("usage", `"${text}" lacks a file: expected ${formOf(format)}`);
  if (more.length > 0 && format !== RAW && !format.takesMoreFiles)
    throw new CowError("usage", `"${text}" is more than one file: expected ${formOf(format)}`);
  return { text, format, settings, path, more };
}

/** A part as a user would write it: parsePart() gives it back. */
export function textOf({ format, settings, path, more }: Omit<StackPart, "text">): string {
  if (format === RAW) return `${RAW}:${path}`;
  if (format === undefined) {
    const { format: named, isStackFile } = formatIn(path);
    return named !== undefined || isStackFile ? `./${path}` : path;
  }
  const said = [...settings].map(([name, value]) => (value === "" ? name : `${name}=${value}`));
  // What begins like a setting would be taken for one.
  const looksSet = /^[a-z][a-z-]*(?:=|$)/.test(path);
  const fields = [...said, looksSet ? `./${path}` : path, ...more];
  return `${format.id}:${fields.map((field) => field.replaceAll(";", "\\;")).join(";")}`;
}

/** Does one stack file name both, one over the other? */
export function isListedOver({ listed }: StackPart, below: StackPart | undefined): boolean {
  return listed !== undefined && listed.by === below?.listed?.by;
}

/** A part that is layer and checkpoint, or that other stack files name, too. */
export function isFrozen({ listed }: StackPart): boolean {
  return listed !== undefined && (listed.checkpoint !== undefined || listed.isShared);
}

/** What a frozen part is, for messages. */
export function frozenAs({ listed }: StackPart): string {
  return listed?.checkpoint
    ? `checkpoint "${listed.checkpoint.name}" of ${listed.by}`
    : `a layer of ${listed?.by} that other stack files share`;
}

/** The files that a part names, its own first. */
export function filesOf({ path, more }: StackPart): readonly string[] {
  return [path, ...more];
}

/** The fields between semicolons; `\;` is a literal one. */
function splitFields(text: string): readonly string[] {
  const fields: string[] = [];
  let field = "";
  for (let i = 0; i < text.length; i++) {
    if (text[i] === ";") {
      fields.push(field);
      field = "";
      continue;
    }
    if (text[i] === "\\" && text[i + 1] === ";") i++;
    field += text[i];
  }
  fields.push(field);
  if (fields.length > MAX_FIELDS) throw new CowError("usage", `a part of a stack has more than ${MAX_FIELDS} fields`);
  return fields;
}

/** The setting in a field, or undefined for a path. */
function settingIn(field: string, format: LayerFormat, text: string): [name: string, value: string] | undefined {
  const known = format.settings ?? [];
  const equals = /^([a-z][a-z-]*)=/.exec(field);
  const name = equals?.[1] ?? field;
  const setting = known.find((each) => each.name === name);
  if (setting && (setting.value === undefined) === (equals === null)) return [name, field.slice(name.length + 1)];
  if (setting) {
    const should = setting.value === undefined ? `${name} alone` : `${name}=${setting.value}`;
    throw new CowError("usage", `"${text}": ${field} should be ${should}`);
  }
  if (!equals) return undefined;
  throw new CowError("usage", `"${text}": ${format.id} knows no setting ${name}`, {
    hints: [`it has the form ${formOf(format)}; a file of such a name is written as ./${field}`],
  });
}

/** How parts of a format are written: `snap:block=BYTES;word=4|8;…FILE;FILE…`. */
function formOf(format: LayerFormat | typeof RAW): string {
  if (format === RAW) return "raw:FILE";
  const settings = (format.settings ?? []).map(({ name, value }) => `[${name}${value ? `=${value}` : ""};]`);
  return `${format.id}:${settings.join("")}FILE${format.takesMoreFiles ? "[;FILE]…" : ""}`;
}
