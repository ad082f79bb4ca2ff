/**
 * Owns stacks as users write them: `BASE[,LAYER]…`, of which each part is `[FORMAT:[NAME=VALUE;|FLAG;]…]PATH[;PATH]…`. A text
 * is parsed once, where it comes in; all else takes the StackSpec. Only known formats count as FORMAT; any other text with a
 * colon is a path. Opens nothing.
 */
import type { Storage } from "../device/storage.ts";
import { CowError } from "../errors.ts";
import type { LayerFormat } from "../formats/format.ts";
import { formatById } from "../formats/registry.ts";

/** A base that is read as it is: not in the registry, because it is not a format of layers. */
const RAW = "raw";

/** No real part has more logs or settings; this bounds the command line as well. */
const MAX_FIELDS = 1024;
const MAX_LAYERS = 64;

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
}

/** A base and the layers over it, by name. */
export class StackSpec {
  /** As written; for a stack composed of parts, as a user would write it. */
  readonly text: string;
  readonly base: StackPart;
  /** Bottom to top. */
  readonly layers: readonly StackPart[];

  /** @throws CowError `usage` for more than 64 layers */
  constructor(parts: readonly [StackPart, ...StackPart[]], text = parts.map(escaped).join(",")) {
    [this.base, ...this.layers] = parts;
    this.text = text;
    if (this.layers.length > MAX_LAYERS) throw new CowError("usage", `"${text}" has more than ${MAX_LAYERS} layers`);
  }

  /**
   * Parses a stack. The name of a file that exists is one part, whatever commas it has, alone or after `FORMAT:`; any other
   * text is split at its commas, as parseStack does it.
   *
   * @param text what is parsed already stays as it is
   * @throws CowError `usage`
   */
  static parse(storage: Storage, text: string | StackSpec): StackSpec {
    if (typeof text !== "string") return text;
    const [base = text, ...layers] = isOneFile(storage, text) ? [text] : parseStack(text);
    return new StackSpec([parsePart(base), ...layers.map(parsePart)], text);
  }

  /** Base first. */
  get parts(): readonly [StackPart, ...StackPart[]] {
    return [this.base, ...this.layers];
  }

  /** The topmost layer; the base where there is none. */
  get top(): StackPart {
    return this.layers.at(-1) ?? this.base;
  }

  /** The files that it names, bottom to top, the first of each part first. */
  get files(): readonly [string, ...string[]] {
    const { path, more } = this.base;
    return [path, ...more, ...this.layers.flatMap(filesOf)];
  }

  /** The base with the lowest `layerCount` layers. */
  lower(layerCount: number): StackSpec {
    return new StackSpec([this.base, ...this.layers.slice(0, layerCount)]);
  }

  /** The backing of the topmost layer. */
  get below(): StackSpec {
    return this.lower(this.layers.length - 1);
  }

  /** The same with more layers on top. */
  with(...layers: readonly StackPart[]): StackSpec {
    return new StackSpec([this.base, ...this.layers, ...layers]);
  }
}

function escaped({ text }: StackPart): string {
  return text.replaceAll(",", "\\,");
}

/** Is there a file of that name, with its commas? Not for an export: a comma in a URI is written `%2C`. */
function isOneFile(storage: Storage, text: string): boolean {
  if (!text.includes(",")) return false;
  const { rest } = formatIn(text);
  try {
    const kind = storage.facts(rest)?.kind;
    return kind !== undefined && kind !== "remote";
  } catch (error) {
    // A stack of many names may be longer than any name.
    if (error instanceof CowError) return false;
    throw error;
  }
}

/**
 * Splits `BASE,LAYER,…` at its commas; `\\,` is a literal comma. parsePart says what each part means.
 * @throws CowError `usage` for an empty name or more than 64 layers
 */
export function parseStack(text: string): readonly string[] {
  const parts: string[] = [];
  let part = "";
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "\\" && text[i + 1] === ",") {
      part += ",";
      i++;
    } else if (text[i] === ",") {
      parts.push(part);
      part = "";
    } else part += text[i];
  }
  parts.push(part);
  if (parts.includes(""))
    throw new CowError("usage", `"${text}" is not a stack: expected BASE[,LAYER]… without empty names`);
  if (parts.length > MAX_LAYERS + 1) throw new CowError("usage", `"${text}" has more than ${MAX_LAYERS} layers`);
  return parts;
}

/** The format that a part names, and the rest; all of the text if it names none. */
function formatIn(text: string): { readonly format: StackPart["format"]; readonly rest: string } {
  const colon = text.indexOf(":");
  const id = colon < 0 ? "" : text.slice(0, colon);
  const format = id === RAW ? RAW : formatById(id);
  return { format, rest: format === undefined ? text : text.slice(colon + 1) };
}

/**
 * Takes a part apart.
 *
 * @throws CowError `usage` for settings that the format does not know, a missing path, or more files than it takes
 */
export function parsePart(text: string): StackPart {
  const { format, rest } = formatIn(text);
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
