/**
 * Owns the text in which LVM writes its metadata: sections, numbers, strings and lists. Bounded in depth and number of
 * nodes.
 */
import { CowError } from "../../errors.ts";

/** Integers are numbers below 2^53; anything else that looks like a number is kept as a string. */
export type TextValue = string | number | readonly (string | number)[] | Section;

/** Not an object, because names come from the disk. */
export type Section = ReadonlyMap<string, TextValue>;

const MAX_DEPTH = 16;
const MAX_NODES = 1 << 20;
/** No name, number or string of LVM's is longer. Patterns are only matched against texts up to this length. */
const MAX_TOKEN_CHARACTERS = 1 << 16;
const WORD = /[A-Za-z0-9_.+/-]/;
const SIGNS = "={}[],";

/** @throws CowError `damaged` if it is not such a text */
export function parseText(text: string, file: string): Section {
  return new Parser(text, file).parse();
}

class Parser {
  readonly #text: string;
  readonly #file: string;
  #token: string | undefined;
  #start = 0;
  #end = 0;
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
    const text = this.#text;
    let at = this.#end;
    for (; at < text.length; at++) {
      const character = text.charAt(at);
      if (character === "#") {
        const end = text.indexOf("\n", at);
        at = end < 0 ? text.length : end;
      } else if (character.trim() !== "") break;
    }
    this.#start = Math.min(at, text.length);
    this.#end = this.#tokenEnd(this.#start);
    this.#token = this.#end > this.#start ? text.slice(this.#start, this.#end) : undefined;
  }

  /** The end of the token that begins at `start`: `start` itself at the end of the text. */
  #tokenEnd(start: number): number {
    const text = this.#text;
    const first = text.charAt(start);
    if (first === "") return start;
    if (SIGNS.includes(first)) return start + 1;
    const most = start + MAX_TOKEN_CHARACTERS;
    let at = start;
    if (first === '"') {
      for (at++; at < most && at < text.length && text.charAt(at) !== '"'; at++) if (text.charAt(at) === "\\") at++;
      if (at >= text.length) throw this.#error("makes no sense");
      at++;
    } else {
      while (at < most && WORD.test(text.charAt(at))) at++;
      if (at === start) throw this.#error("makes no sense");
    }
    if (at >= most) throw this.#error(`has more than ${MAX_TOKEN_CHARACTERS} characters in one word`);
    return at;
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
