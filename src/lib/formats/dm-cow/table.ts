/**
 * Owns the table line of a dm-cow stack, the only place with its length, its base and the order of its layers: `0 LEN
 * cow BASEDEV BASEOFF {BITMAPDEV DATADEV OFF}…`, all numbers in sectors. Stricter than the driver's parser, which
 * accepted wrong numbers of words and junk after numbers.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { atByte, CowError } from "../../errors.ts";
import { SECTOR_BYTES } from "./layout.ts";

export interface TableLayer {
  readonly bitmap: string;
  readonly data: string;
  /** Where the image begins on the data device, in sectors. */
  readonly offset: number;
}

export interface DmCowTable {
  /** How long the stack is. */
  readonly sectors: number;
  readonly base: { readonly device: string; readonly offset: number };
  /** Bottom to top; the last one was writable. */
  readonly layers: readonly [TableLayer, ...TableLayer[]];
}

/** A table is one line; a larger file is something else. */
const MAX_TABLE_BYTES = 64 * 1024;
/** The driver takes ten devices, including the base. */
const MAX_LAYERS = 9;
/** The driver cuts off longer names without a message. */
export const DRIVER_NAME_BYTES = 25;
const MAX_SECTORS = Math.floor(Number.MAX_SAFE_INTEGER / SECTOR_BYTES / 4);

/** Does it begin like a table? */
export function looksLikeTable(head: Uint8Array): boolean {
  return /^\s*\d+\s+\d+\s+cow\s/.test(Buffer.from(head.subarray(0, 128)).toString("latin1"));
}

/**
 * Reads the one line of a table file; empty lines and lines that begin with `#` are ignored.
 *
 * @throws CowError `bad-head` for whatever is no table, `unsupported` for one that does not begin at sector 0
 */
export function readTable(source: ByteSource): DmCowTable {
  const bytes = new Uint8Array(Math.min(source.sizeBytes, MAX_TABLE_BYTES + 1));
  const got = source.read(bytes, 0);
  if (got > MAX_TABLE_BYTES) throw notATable(source.name, `it has more than ${MAX_TABLE_BYTES} bytes`);
  const zero = bytes.indexOf(0);
  if (zero >= 0) throw notATable(source.name, `it has a NUL at ${atByte(zero)}`);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, got));
  } catch {
    throw notATable(source.name, "it is no text");
  }
  const lines = text.split("\n").filter((line) => !/^\s*(#|$)/.test(line));
  const [line] = lines;
  if (line === undefined || lines.length > 1) throw notATable(source.name, `it has ${lines.length} lines, not one`);
  return parseTable(line, source.name);
}

/** @throws CowError as readTable */
function parseTable(line: string, file: string): DmCowTable {
  const words = line.trim().split(/\s+/);
  const [start, length, target, ...rest] = words;
  if (target !== "cow") throw notATable(file, `its third word is not "cow"`);
  if (sectorNumber(start, "START", file) !== 0)
    throw new CowError("unsupported", "begins at another sector than 0: only a whole device is an image", { file });
  const sectors = sectorNumber(length, "LEN", file);
  if (sectors === 0) throw notATable(file, "LEN is 0");
  if (rest.length % 3 !== 2)
    throw notATable(file, `it has ${rest.length} words behind "cow": a base has two, each layer three`);
  const count = (rest.length - 2) / 3;
  if (count < 1 || count > MAX_LAYERS) throw notATable(file, `it has ${count} layers, not 1 to ${MAX_LAYERS}`);
  const [device = "", baseOffset, ...triples] = rest;
  const layers = Array.from({ length: count }, (_, i) => {
    const [bitmap = "", data = "", offset] = triples.slice(i * 3, i * 3 + 3);
    return { bitmap, data, offset: sectorNumber(offset, `the offset of layer ${i + 1}`, file) };
  });
  const [first, ...others] = layers;
  if (!first) throw notATable(file, "it has no layer");
  return { sectors, base: { device, offset: sectorNumber(baseOffset, "BASEOFF", file) }, layers: [first, ...others] };
}

/** The line, as `dmsetup create` takes it, without a newline. */
export function formatTable({ sectors, base, layers }: DmCowTable): string {
  const triples = layers.map(({ bitmap, data, offset }) => `${bitmap} ${data} ${offset}`);
  return `0 ${sectors} cow ${base.device} ${base.offset} ${triples.join(" ")}`;
}

function sectorNumber(word: string | undefined, what: string, file: string): number {
  if (word === undefined || !/^\d{1,16}$/.test(word)) throw notATable(file, `${what} is "${word ?? ""}", not a number`);
  const value = Number(word);
  if (value > MAX_SECTORS) throw notATable(file, `${what} is ${word}, more than ${MAX_SECTORS} sectors`);
  return value;
}

function notATable(file: string, why: string): CowError {
  return new CowError("bad-head", `is no dm-cow table: ${why}`, {
    file,
    hints: ["it is one line: 0 LEN cow BASE BASEOFF BITMAP DATA OFF …, numbers in sectors"],
  });
}
