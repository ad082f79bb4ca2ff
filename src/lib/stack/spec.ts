/**
 * Owns stacks as users write them: `BASE[,LAYER]…` or `stack:FILE[,LAYER]…`; part.ts has what a part is. A text is parsed
 * once, where it comes in; all else takes the StackSpec.
 */
import { resolve } from "node:path";
import type { Storage } from "../device/storage.ts";
import { CowError } from "../errors.ts";
import { isNbdUri } from "../protocol/uri.ts";
import { filesOf, formatIn, parsePart, STACK_FILE, type StackPart, textOf } from "./part.ts";
import { partsOf, readStackFile, type StackFile } from "./stack-file.ts";

/** Those that a stack file names are not counted. */
const MAX_LAYERS = 64;

/** A base and the layers over it, by name. */
export class StackSpec {
  /** As written; for a stack composed of parts, as a user would write it. */
  readonly text: string;
  readonly base: StackPart;
  /** Bottom to top. */
  readonly layers: readonly StackPart[];
  /** The stack file that names all of its parts, and nothing else. */
  readonly stackFile: StackFile | undefined;

  /** @throws CowError `usage` for more than 64 layers */
  constructor(
    parts: readonly [StackPart, ...StackPart[]],
    text = parts.map(escaped).join(","),
    stackFile: StackFile | undefined = undefined,
  ) {
    [this.base, ...this.layers] = parts;
    this.text = text;
    this.stackFile = stackFile;
    if (this.layers.filter(({ listed }) => !listed).length > MAX_LAYERS)
      throw new CowError("usage", `"${text}" has more than ${MAX_LAYERS} layers`);
  }

  /**
   * Parses a stack. The name of a file that exists is one part, whatever commas it has, alone or after `FORMAT:`; any other
   * text is split at its commas, as parseStack does it. Reads the stack file of `stack:FILE[,LAYER]…`, and opens nothing else.
   *
   * @param text what is parsed already stays as it is
   * @throws CowError `usage`; as readStackFile
   */
  static parse(storage: Storage, text: string | StackSpec): StackSpec {
    if (typeof text !== "string") return text;
    const [base = text, ...layers] = isOneFile(storage, text) ? [text] : parseStack(text);
    const { rest, isStackFile } = formatIn(base);
    const more = layers.map(parsePart);
    if (!isStackFile) return new StackSpec([parsePart(base), ...more], text);
    const stackFile = readStackFile(storage, rest);
    return new StackSpec([...partsOf(stackFile), ...more], text, more.length === 0 ? stackFile : undefined);
  }

  /** Base first. */
  get parts(): readonly [StackPart, ...StackPart[]] {
    return [this.base, ...this.layers];
  }

  /** The topmost layer; the base where there is none. */
  get top(): StackPart {
    return this.layers.at(-1) ?? this.base;
  }

  /** The files that it names, bottom to top, the first of each part first; a stack file last. */
  get files(): readonly [string, ...string[]] {
    const { path, more } = this.base;
    const named = this.parts.flatMap(({ listed }) => listed?.by ?? []);
    return [path, ...more, ...this.layers.flatMap(filesOf), ...new Set(named)];
  }

  /** The base with the lowest `layerCount` layers. */
  lower(layerCount: number): StackSpec {
    return new StackSpec([this.base, ...this.layers.slice(0, layerCount)]);
  }

  /** The backing of the topmost layer. */
  get below(): StackSpec {
    return this.lower(this.layers.length - 1);
  }

  /** As a user would write it in any other working directory. @param directory what its names are relative to now */
  textFrom(directory: string): string {
    const [first, ...layers] = this.parts;
    const own = layers.filter(({ listed }) => !listed).map((part) => absolute(part, directory));
    const bottom = first.listed ? `${STACK_FILE}:${resolve(directory, first.listed.by)}` : absolute(first, directory);
    return [bottom, ...own].map(escapeCommas).join(",");
  }

  /** The same with more layers on top. */
  with(...layers: readonly StackPart[]): StackSpec {
    return layers.length === 0 ? this : new StackSpec([this.base, ...this.layers, ...layers]);
  }
}

/** The text of a part with absolute names. */
function absolute(part: StackPart, directory: string): string {
  const [path = "", ...more] = filesOf(part).map((file) => (isNbdUri(file) ? file : resolve(directory, file)));
  return textOf({ ...part, path, more });
}

function escaped({ text }: StackPart): string {
  return escapeCommas(text);
}

function escapeCommas(text: string): string {
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
