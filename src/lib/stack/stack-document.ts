/**
 * Owns the format of stack files: one JSON document that names a base and layers, bottom to top; see docs/stack-files.md.
 * Every field is checked before it is believed. Opens nothing, and knows no directory: names are as they are stored.
 */
import { decodeUtf8 } from "../bytes/utf8.ts";
import { atByte, CowError, type ErrorCode } from "../errors.ts";
import { formatById } from "../formats/registry.ts";
import { isNbdUri, parseNbdUri } from "../protocol/uri.ts";
import { type Checkpoint, RAW } from "./part.ts";

const VERSION = 1;
export const MAX_STACK_FILE_BYTES = 1 << 20;
const MAX_STACK_FILE_LAYERS = 1024;
const MAX_MORE_FILES = 1024;
const MAX_TO_REMOVE = 4096;
const MAX_DECIDED = 256;
const MAX_MEMBERS = 1024;
/** As long as the longest path that Linux takes. */
const MAX_NAME_BYTES = 4096;
const MAX_NOTE_BYTES = 4096;

const BEGINNING = /^\s*\{\s*"cowtool_stack"\s*:/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$/;
/** It is a part of words such as `NAME@CHECKPOINT` and `FROM..TO`. */
const CHECKPOINT_NAME = /^[\p{L}\p{N}](?:[\p{L}\p{N}_:+-]|\.(?!\.)){0,99}$/u;
/** Fields of other programs: kept as they are. */
const FOREIGN = /^x_/;

/** Fields that other programs added. */
type Foreign = { readonly [field: `x_${string}`]: unknown };

/** A part that is in one or more files. */
interface FilePart extends Foreign {
  /** Relative to the stack file, or absolute. */
  readonly file: string;
  /** `raw` or the id of a format; if missing, the file decides. */
  readonly format?: string;
  /** What would be written `NAME=VALUE;`, or `FLAG;` with the value `true`. */
  readonly settings?: Readonly<Record<string, string | true>>;
  readonly more_files?: readonly string[];
}

/** An export of an NBD server. */
interface UriPart extends Foreign {
  readonly uri: string;
}

/** A layer of a stack. */
export interface LayerPart extends FilePart {
  /** It is frozen, and has a name. */
  readonly checkpoint?: Checkpoint & Foreign;
  /** Other stack files name it, too: it is neither written nor removed. */
  readonly shared?: boolean;
}

/** A checkpoint that is being made. */
export interface Pending extends Foreign {
  readonly checkpoint: Checkpoint & Foreign;
  /** The new top, relative to the stack file or absolute: a cowfile that was made, and is empty. */
  readonly file: string;
  /** The stack file whose replacement decides for this one; if missing, its own. */
  readonly decided_by?: string;
}

/** A checkpoint of several disks for which the replacement of this stack file decided: others may not have written it down. */
export interface Decided extends Foreign {
  readonly name: string;
  readonly time: string;
  /** Their stack files, relative to this one or absolute. */
  readonly members: readonly string[];
}

/** What a stack file says. */
export interface StackDocument extends Foreign {
  readonly cowtool_stack: typeof VERSION;
  readonly base: FilePart | UriPart;
  /** Bottom to top. */
  readonly layers: readonly LayerPart[];
  readonly pending?: Pending;
  /** Cowfiles that were its layers: to be removed by its holder. */
  readonly to_remove?: readonly string[];
  /** Kept, whatever becomes of these checkpoints here, until the others have written them down. */
  readonly decided?: readonly Decided[];
}

/** What the name of a checkpoint may be, for messages. */
export const NAME_RULE = "a letter or digit, then letters, digits and . _ : + - (not ..), 100 at most";
/** The same of its note. */
export const NOTE_RULE = `a text of at most ${MAX_NOTE_BYTES} bytes in UTF-8, with whole characters`;

export function isCheckpointName(text: string): boolean {
  return CHECKPOINT_NAME.test(text);
}

export function isCheckpointNote(text: string): boolean {
  return text.isWellFormed() && Buffer.byteLength(text) <= MAX_NOTE_BYTES;
}

/** @param head the first bytes of a file; 64 are enough */
export function looksLikeStackFile(head: Uint8Array): boolean {
  return BEGINNING.test(Buffer.from(head.subarray(0, 64)).toString("latin1"));
}

/**
 * @param file for messages
 * @throws CowError `bad-head` for what is no stack file, `unsupported` for one of a newer version or with unknown fields,
 *   `damaged` for one that contradicts the format, with the JSON path in its details; `unsuitable` for one that is too long
 */
export function decodeStackDocument(bytes: Uint8Array, file: string): StackDocument {
  if (bytes.length > MAX_STACK_FILE_BYTES)
    throw new CowError("unsuitable", `is longer than a stack file may be (${MAX_STACK_FILE_BYTES} bytes)`, { file });
  const text = decodeUtf8(bytes);
  if (text === undefined) throw new CowError("bad-head", "is no stack file: it is not UTF-8", { file });
  const value = parseJson(text, file);
  const at = new Place(file, "$");
  const fields = at.object(value, "bad-head");
  const version = fields["cowtool_stack"];
  if (version === undefined)
    throw new CowError("bad-head", "is no stack file: the field cowtool_stack is missing", { file });
  if (!Number.isSafeInteger(version) || (version as number) < 1)
    throw at.in("cowtool_stack").wrong("is no version number");
  if (version !== VERSION)
    throw at.in("cowtool_stack").wrong(`is ${version}: this cowtool knows version ${VERSION} only`, "unsupported");
  at.allow(fields, ["cowtool_stack", "base", "layers", "pending", "to_remove", "decided"]);
  checkBase(at.in("base"), fields["base"]);
  const layers = at.in("layers").list(fields["layers"], MAX_STACK_FILE_LAYERS);
  const names = new Set<string>();
  for (const [i, layer] of layers.entries()) checkLayer(at.in("layers").at(i), layer, names);
  if (fields["pending"] !== undefined) {
    if (layers.length === 0) throw at.in("pending").wrong("is a checkpoint without a layer");
    checkPending(at.in("pending"), fields["pending"], names);
  }
  const gone = fields["to_remove"] === undefined ? [] : at.in("to_remove").list(fields["to_remove"], MAX_TO_REMOVE);
  for (const [i, name] of gone.entries()) at.in("to_remove").at(i).name(name);
  const decided = fields["decided"] === undefined ? [] : at.in("decided").list(fields["decided"], MAX_DECIDED);
  for (const [i, each] of decided.entries()) checkDecided(at.in("decided").at(i), each);
  return value as StackDocument;
}

/** As it is written; decodeStackDocument() gives the same document again. @throws CowError as that */
export function encodeStackDocument(document: StackDocument, file: string): Uint8Array {
  const { cowtool_stack, ...rest } = document;
  const bytes = Buffer.from(`${JSON.stringify({ cowtool_stack, ...rest }, null, 2)}\n`);
  decodeStackDocument(bytes, file);
  return bytes;
}

function checkBase(at: Place, value: unknown): void {
  const fields = at.object(value);
  if (fields["uri"] === undefined) {
    checkFile(at, fields, []);
    return;
  }
  at.allow(fields, ["uri"]);
  const uri = at.in("uri").name(fields["uri"]);
  if (!isNbdUri(uri)) throw at.in("uri").wrong("is no NBD URI; the name of a file belongs into the field file");
  try {
    parseNbdUri(uri);
  } catch (error) {
    throw at.in("uri").wrong(error instanceof CowError ? error.message : "is no NBD URI");
  }
}

function checkLayer(at: Place, value: unknown, names: Set<string>): void {
  const fields = at.object(value);
  checkFile(at, fields, ["checkpoint", "shared"]);
  if (fields["format"] === RAW) throw at.in("format").wrong("is raw: a raw image is a base and no layer");
  if (fields["shared"] !== undefined && typeof fields["shared"] !== "boolean")
    throw at.in("shared").wrong("is neither true nor false");
  if (fields["checkpoint"] !== undefined) checkCheckpoint(at.in("checkpoint"), fields["checkpoint"], names);
}

function checkPending(at: Place, value: unknown, names: Set<string>): void {
  const fields = at.object(value);
  at.allow(fields, ["checkpoint", "file", "decided_by"]);
  checkCheckpoint(at.in("checkpoint"), fields["checkpoint"], names);
  at.in("file").name(fields["file"]);
  if (fields["decided_by"] !== undefined) at.in("decided_by").name(fields["decided_by"]);
}

function checkDecided(at: Place, value: unknown): void {
  const { members, ...checkpoint } = at.object(value);
  checkCheckpoint(at, checkpoint, new Set());
  for (const [i, name] of at.in("members").list(members, MAX_MEMBERS).entries()) at.in("members").at(i).name(name);
}

function checkCheckpoint(inside: Place, value: unknown, names: Set<string>): void {
  const checkpoint = inside.object(value);
  inside.allow(checkpoint, ["name", "time", "note"]);
  const { name, time, note } = checkpoint;
  if (typeof name !== "string" || !isCheckpointName(name))
    throw inside.in("name").wrong(`is no name of a checkpoint: ${NAME_RULE}`);
  if (names.has(name)) throw inside.in("name").wrong(`is "${name}", as of another checkpoint`);
  names.add(name);
  if (typeof time !== "string" || !TIME.test(time) || Number.isNaN(Date.parse(time)))
    throw inside.in("time").wrong("is no time in UTC such as 2026-11-29T12:00:00.000Z");
  if (note !== undefined) inside.in("note").text(note, MAX_NOTE_BYTES);
}

function checkFile(at: Place, fields: Fields, more: readonly string[]): void {
  at.allow(fields, ["file", "format", "settings", "more_files", ...more]);
  const { format: id, settings, more_files } = fields;
  at.in("file").name(fields["file"]);
  const format = typeof id === "string" ? formatById(id) : undefined;
  if (id !== undefined && id !== RAW && !format)
    throw at.in("format").wrong("is no format that this cowtool knows", "unsupported");
  const files = more_files === undefined ? [] : at.in("more_files").list(more_files, MAX_MORE_FILES);
  for (const [i, name] of files.entries()) at.in("more_files").at(i).name(name);
  if (files.length > 0 && !format?.takesMoreFiles)
    throw at.in("more_files").wrong("goes only with a format that is in several files");
  const inside = at.in("settings");
  for (const [name, value] of Object.entries(settings === undefined ? {} : inside.object(settings))) {
    const known = format?.settings?.find((each) => each.name === name);
    if (!known) throw inside.in(name).wrong(`is no setting of ${format?.id ?? "an unnamed format"}`, "unsupported");
    const isFlag = known.value === undefined;
    if (isFlag ? value !== true : typeof value !== "string")
      throw inside.in(name).wrong(isFlag ? "is a flag: its value must be true" : `must be a text, ${known.value}`);
    if (!isFlag) inside.in(name).name(value);
  }
}

type Fields = Readonly<Record<string, unknown>>;

/** A place in the document, by its JSON path, and what may be there. */
class Place {
  readonly #file: string;
  readonly #path: string;

  constructor(file: string, path: string) {
    this.#file = file;
    this.#path = path;
  }

  in(field: string): Place {
    return new Place(this.#file, `${this.#path}${/^\w+$/.test(field) ? `.${field}` : `[${JSON.stringify(field)}]`}`);
  }

  at(index: number): Place {
    return new Place(this.#file, `${this.#path}[${index}]`);
  }

  wrong(what: string, code: ErrorCode = "damaged"): CowError {
    return new CowError(code, `${this.#path} in it ${what}`, { file: this.#file, details: { json_path: this.#path } });
  }

  object(value: unknown, code?: ErrorCode): Fields {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
    throw this.wrong(value === undefined ? "is missing" : "is no object", code);
  }

  list(value: unknown, most: number): readonly unknown[] {
    if (!Array.isArray(value)) throw this.wrong(value === undefined ? "is missing" : "is no list");
    if (value.length > most) throw this.wrong(`has ${value.length} elements, more than ${most}`);
    return value;
  }

  text(value: unknown, mostBytes: number): string {
    if (typeof value !== "string") throw this.wrong(value === undefined ? "is missing" : "is no text");
    if (!value.isWellFormed()) throw this.wrong("holds half of a character (a lone surrogate)");
    if (Buffer.byteLength(value) > mostBytes) throw this.wrong(`is longer than ${mostBytes} bytes`);
    return value;
  }

  /** Of a file. */
  name(value: unknown): string {
    const text = this.text(value, MAX_NAME_BYTES);
    if (text === "") throw this.wrong("is empty");
    if (text.includes("\0")) throw this.wrong("has a NUL character");
    return text;
  }

  /** An unknown field may mean that the image is another one than without it. */
  allow(fields: Fields, known: readonly string[]): void {
    const unknown = Object.keys(fields).find((field) => !known.includes(field) && !FOREIGN.test(field));
    if (unknown !== undefined)
      throw this.in(unknown).wrong("is a field that this cowtool does not know", "unsupported");
  }
}

function parseJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const { message } = error as Error;
    const offset = Buffer.byteLength(text.slice(0, placeOf(text, message)));
    // What V8 quotes of the file is not for a terminal.
    const [what = ""] = message.split(/ in JSON at position|, (?:\.\.\.)?"/, 1);
    throw new CowError("bad-head", `is no stack file: it is not JSON from ${atByte(offset)} on: ${lowerFirst(what)}`, {
      file,
      details: { offset },
    });
  }
}

/** The first character that is no JSON. V8 says where it is, except of a character that begins nothing. */
function placeOf(text: string, message: string): number {
  const [, position] = /at position (\d+)/.exec(message) ?? [];
  if (position !== undefined) return Number(position);
  let [sound, wrong] = [0, text.length];
  while (sound < wrong) {
    const middle = (sound + wrong) >> 1;
    if (endsAtWrongToken(text.slice(0, middle + 1))) wrong = middle;
    else sound = middle + 1;
  }
  return sound;
}

function endsAtWrongToken(text: string): boolean {
  try {
    JSON.parse(text);
    return false;
  } catch (error) {
    return (error as Error).message.startsWith("Unexpected token");
  }
}

function lowerFirst(text: string): string {
  return text.slice(0, 1).toLowerCase() + text.slice(1);
}
