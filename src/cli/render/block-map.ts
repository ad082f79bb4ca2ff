/**
 * Owns the picture of an image in a terminal: each cell is a range of the image, its shade the covered part.
 */
import { roundedSize } from "../../lib/bytes/size.ts";
import { coverCells, type Extents } from "./map-cells.ts";

const MIN_COLUMNS = 20;
const DEFAULT_COLUMNS = 80;
const MAX_ROWS = 16;

/** Shades from nothing to all; the first and the last mean exactly that. */
const SHADES = { unicode: ["·", "░", "▒", "▓", "█"], ascii: [".", "-", "+", "*", "#"] } as const;

/** Can the terminal show more than ASCII? */
function speaksUnicode(env: Readonly<Record<string, string | undefined>>): boolean {
  const locale = env["LC_ALL"] || env["LC_CTYPE"] || env["LANG"] || "";
  return /utf-?8/i.test(locale);
}

function shadeOf(covered: number, size: number, shades: readonly string[]): string {
  if (covered <= 0) return shades[0] ?? " ";
  if (covered >= size) return shades.at(-1) ?? " ";
  const partial = shades.length - 2;
  return shades[1 + Math.min(partial - 1, Math.floor((covered / size) * partial))] ?? " ";
}

export interface BlockMapView {
  readonly columns: number | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The meaning of an empty cell, and of a full one: `from the base`, `allocated in the cowfile`. */
  readonly none: string;
  readonly all: string;
}

/** Lines of cells, then a legend. */
export async function* renderBlockMap(extents: Extents, sizeBytes: number, view: BlockMapView): AsyncGenerator<string> {
  const width = Math.max(MIN_COLUMNS, view.columns ?? DEFAULT_COLUMNS);
  const { cellBytes, covered } = await coverCells(extents, sizeBytes, width * MAX_ROWS);
  const shades = SHADES[speaksUnicode(view.env) ? "unicode" : "ascii"];
  for (let row = 0; row < covered.length; row += width) {
    let line = "";
    for (let cell = row; cell < Math.min(covered.length, row + width); cell++) {
      line += shadeOf(covered[cell] ?? 0, Math.min(cellBytes, sizeBytes - cell * cellBytes), shades);
    }
    yield `${line}\n`;
  }
  const [none, ...some] = shades;
  const partly = some.slice(0, -1).join("");
  yield `${none} ${view.none}   ${partly} in part   ${some.at(-1)} ${view.all}   (a cell is ${roundedSize(cellBytes)})\n`;
}
