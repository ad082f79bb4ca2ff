/**
 * Owns the names of parts of a stack, as users write them: `[FORMAT:[NAME=VALUE;|FLAG;]…]PATH[;PATH]…`. Only the names of
 * formats that there are count as such; whatever else has a colon in it is a path. Opens nothing.
 */
import { CowError } from "../errors.ts";
import type { LayerFormat } from "../formats/format.ts";
import { formatById } from "../formats/registry.ts";

/** What is read as it is: not a format of layers, so that the registry does not know it. */
const RAW = "raw";

/** Nobody has more logs or settings; what comes from a command line is bounded as well. */
const MAX_FIELDS = 1024;

/** One part of a stack: a base or a layer. */
export interface StackPart {
  /** As it was written. */
  readonly text: string;
  /** The format that was named; `raw` for one that is none; undefined where the file itself is to tell. */
  readonly format: LayerFormat | typeof RAW | undefined;
  /** By name; flags have an empty value. */
  readonly settings: ReadonlyMap<string, string>;
  /** Its first or only file. */
  readonly path: string;
  /** Further files, in order. */
  readonly more: readonly string[];
}

/**
 * Takes a part apart.
 *
 * @throws CowError `usage` for settings that the format does not know, a missing path, or more files than it takes
 */
export function parsePart(text: string): StackPart {
  const colon = text.indexOf(":");
  const id = colon < 0 ? "" : text.slice(0, colon);
  const format = id === RAW ? RAW : formatById(id);
  if (format === undefined) return { text, format, settings: new Map(), path: text, more: [] };
  const rest = text.slice(colon + 1);
  // A raw image takes no settings, so that whatever follows is its name.
  const fields = format === RAW ? [rest] : splitFields(rest);
  const settings = new Map<string, string>();
  let at = 0;
  for (; at < fields.length; at++) {
    const field = fields[at] ?? "";
    // The last one is a file in any case, unless it can only be a setting.
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

/** The setting that a field is, or undefined where it is a path. */
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
