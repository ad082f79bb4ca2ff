/**
 * Owns the text in which LVM writes its metadata: sections, numbers, strings and lists. Bounded in depth and number of
 * nodes, whatever the text says.
 */
import { CowError } from "../../errors.ts";

/** Integers are numbers below 2^53; anything else that looks like a number is kept as a string. */
export type TextValue = string | number | readonly (string | number)[] | Section;

/** Never an object: names come from the disk. */
export type Section = ReadonlyMap<string, TextValue>;

const MAX_DEPTH = 16;
const MAX_NODES = 1 << 20;
const TOKEN = /\s+|#[^\n]*|"(?:[^"\\]|\\.)*"|[A-Za-z0-9_.+/-]+|[={}[\],]/gsy;

/** @throws CowError `damaged` for what is no such text */
export function parseText(text: string, file: string): Section {
  return new Parser(text, file).parse();
}

class Parser {
  readonly #text: string;
  readonly #file: string;
  readonly #pattern = new RegExp(TOKEN);
  #token: string | undefined;
  #start = 0;
  #nodes = 0;

  constructor(text: string, file: string) {
    this.#text = text;
    this.#file = file;
    this.#advance();
  }

  parse(): Section {
    const section = this.#section(0);
    if (this.#token !== undefined) throw this.#error("expects a name");
    return section;
  }

  #error(words: string): CowError {
    return new CowError("damaged", `the volume group's text ${words} at its character ${this.#start}`, {
      file: this.#file,
      details: { character: this.#start },
    });
  }

  /** The next token that is neither space nor comment. */
  #advance(): void {
    for (;;) {
      this.#start = this.#pattern.lastIndex;
      if (this.#start >= this.#text.length) {
        this.#token = undefined;
        return;
      }
      const match = this.#pattern.exec(this.#text);
      if (!match) {
        this.#pattern.lastIndex = this.#text.length;
        throw this.#error("makes no sense");
      }
      if (/^[\s#]/.test(match[0])) continue;
      this.#token = match[0];
      return;
    }
  }

  #take(expected: string): void {
    if (this.#token !== expected) throw this.#error(`expects "${expected}"`);
    this.#advance();
  }

  #section(depth: number): Section {
    if (depth > MAX_DEPTH) throw this.#error("is nested too deeply");
    const section = new Map<string, TextValue>();
    while (this.#token !== undefined && this.#token !== "}") {
      const name = this.#token;
      if (!/^[A-Za-z0-9_.+-]+$/.test(name)) throw this.#error("expects a name");
      if (section.has(name)) throw this.#error(`has ${name} a second time`);
      this.#count();
      this.#advance();
      if (this.#token === "{") {
        this.#advance();
        section.set(name, this.#section(depth + 1));
        this.#take("}");
      } else {
        this.#take("=");
        section.set(name, this.#token === "[" ? this.#list() : this.#scalar());
      }
    }
    return section;
  }

  #list(): (string | number)[] {
    const list: (string | number)[] = [];
    this.#take("[");
    while (this.#token !== "]") {
      if (list.length > 0) this.#take(",");
      list.push(this.#scalar());
    }
    this.#take("]");
    return list;
  }

  #scalar(): string | number {
    const token = this.#token;
    this.#count();
    if (token === undefined || /^[={}[\],]/.test(token)) throw this.#error("expects a value");
    this.#advance();
    if (token.startsWith('"')) return token.slice(1, -1).replace(/\\(.)/gs, "$1");
    const number = Number(token);
    return /^\d+$/.test(token) && Number.isSafeInteger(number) ? number : token;
  }

  #count(): void {
    if (++this.#nodes > MAX_NODES) throw this.#error("is too long");
  }
}
