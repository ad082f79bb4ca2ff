/**
 * Owns how a result becomes JSON text: element by element, so that a result with millions of extents needs no memory.
 * Must not write anywhere itself.
 *
 * House rules (docs of `--json`): bigints and integers above 2^53-1 are decimal strings, bytes are hex strings, anything
 * iterable is an array. Each key of the result and each element of its arrays has a line of its own.
 */

import { escapeInJson } from "./escape.ts";
import { ReaderGone, TextBuffer, type TextSink } from "./text.ts";

/** The value as JSON knows it, one level deep. */
function unwrap(value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "number") {
    return Number.isInteger(value) && !Number.isSafeInteger(value) ? BigInt(value).toString() : value;
  }
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("hex");
  if ("toJSON" in value && typeof value.toJSON === "function") return unwrap(value.toJSON());
  return value;
}

/** The JSON of a primitive, in characters that are safe on a terminal. */
function primitive(value: unknown): string {
  if (typeof value === "string") return escapeInJson(JSON.stringify(value));
  return JSON.stringify(value) ?? "null";
}

function isOmitted(value: unknown): boolean {
  return value === undefined || typeof value === "function" || typeof value === "symbol";
}

type Sequence = Iterable<unknown> | AsyncIterable<unknown>;

function isSequence(value: object): value is Sequence {
  return Symbol.iterator in value || Symbol.asyncIterator in value;
}

/** The text of a primitive or of an object of primitives; undefined for anything deeper. The fast way, for extents. */
function flatText(value: unknown): string | undefined {
  const plain = unwrap(value);
  if (typeof plain !== "object" || plain === null) return primitive(plain);
  if (isSequence(plain)) return undefined;
  const members: string[] = [];
  for (const key of Object.keys(plain)) {
    const member = unwrap((plain as Record<string, unknown>)[key]);
    if (typeof member === "object" && member !== null) return undefined;
    if (!isOmitted(member)) members.push(`${primitive(key)}:${primitive(member)}`);
  }
  return `{${members.join(",")}}`;
}

/** `--json`: one document, for people to read, too; `--json=lines`: one object a line, each written as soon as it is made. */
export const JSON_MODES = ["document", "lines"] as const;
export type JsonMode = (typeof JSON_MODES)[number];

/** Writes one value into a buffer, which throws when the reader has gone, and so ends every loop. */
class JsonWriter {
  readonly #out: TextBuffer;
  readonly #isCompact: boolean;

  constructor(out: TextBuffer, isCompact: boolean) {
    this.#out = out;
    this.#isCompact = isCompact;
  }

  /** The line breaks of a container at a depth: the result and its arrays are spread out, the rest is compact. */
  #breakAt(depth: number): { inside: string; end: string } {
    if (depth > 1 || this.#isCompact) return { inside: "", end: "" };
    return { inside: `\n${"  ".repeat(depth + 1)}`, end: `\n${"  ".repeat(depth)}` };
  }

  async value(value: unknown, depth: number): Promise<void> {
    const plain = unwrap(value);
    if (typeof plain !== "object" || plain === null) await this.#out.push(primitive(plain));
    else if (isSequence(plain)) await this.#sequence(plain, depth);
    else await this.#members(plain, depth);
  }

  async #sequence(sequence: Sequence, depth: number): Promise<void> {
    const newLine = this.#breakAt(depth);
    let isFirst = true;
    const element = (item: unknown): Promise<void> | undefined => {
      const start = `${isFirst ? "" : ","}${newLine.inside}`;
      isFirst = false;
      const text = flatText(item);
      return text === undefined ? this.#after(start, item, depth + 1) : this.#out.push(start + text);
    };
    await this.#out.push("[");
    if (Symbol.iterator in sequence) {
      for (const item of sequence) {
        const full = element(item);
        if (full) await full;
      }
    } else {
      for await (const item of sequence) await element(item);
    }
    await this.#out.push(isFirst ? "]" : `${newLine.end}]`);
  }

  async #members(object: object, depth: number): Promise<void> {
    const newLine = this.#breakAt(depth === 0 ? 0 : Number.POSITIVE_INFINITY);
    let isFirst = true;
    await this.#out.push("{");
    for (const [key, member] of Object.entries(object)) {
      if (isOmitted(member)) continue;
      const colon = newLine.inside ? ": " : ":";
      await this.#after(`${isFirst ? "" : ","}${newLine.inside}${primitive(key)}${colon}`, member, depth + 1);
      isFirst = false;
    }
    await this.#out.push(isFirst ? "}" : `${newLine.end}}`);
  }

  async #after(start: string, value: unknown, depth: number): Promise<void> {
    await this.#out.push(start);
    await this.value(value, depth);
  }
}

/**
 * Writes `value` as JSON text and a newline, in pieces of about 64 Ki characters.
 *
 * If an iterable throws, its error is thrown here after a part was written: then only the exit status counts.
 *
 * @param mode with `lines` it has no other line break; each element of a list is a line, written when it is there
 * @returns false when the reader has gone before the end
 */
export async function writeJson(value: unknown, sink: TextSink, mode: JsonMode = "document"): Promise<boolean> {
  const out = new TextBuffer(sink);
  const writer = new JsonWriter(out, mode === "lines");
  const line = async (each: unknown): Promise<void> => {
    await writer.value(each, 0);
    await out.push("\n");
    await out.flush();
  };
  try {
    if (mode === "lines" && typeof value === "object" && value !== null && isSequence(value))
      for await (const each of value) await line(each);
    else await line(value);
    return true;
  } catch (error) {
    if (error instanceof ReaderGone) return false;
    throw error;
  }
}
