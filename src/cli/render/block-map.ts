/**
 * Owns the picture of an image in a terminal: each cell is a range of the image, its shade how much of it is held.
 */
import { roundedSize } from "../../lib/bytes/size.ts";

const MIN_COLUMNS = 20;
const DEFAULT_COLUMNS = 80;
const MAX_ROWS = 16;
const BLOCK_BYTES = 1024;

/** Shades from nothing to all; the first and the last mean exactly that. */
const SHADES = { unicode: ["·", "░", "▒", "▓", "█"], ascii: [".", "-", "+", "*", "#"] } as const;

/** Can the terminal show more than ASCII? */
export function speaksUnicode(env: NodeJS.ProcessEnv): boolean {
  const locale = env["LC_ALL"] || env["LC_CTYPE"] || env["LANG"] || "";
  return /utf-?8/i.test(locale);
}

function shadeOf(held: number, size: number, shades: readonly string[]): string {
  if (held <= 0) return shades[0] ?? " ";
  if (held >= size) return shades.at(-1) ?? " ";
  return shades[1 + Math.min(shades.length - 3, Math.floor((held / size) * (shades.length - 2)))] ?? " ";
}

/** Lines of cells, then a legend. Any size of image in one pass over its extents. */
export function* renderBlockMap(
  extents: Iterable<{ readonly offset: number; readonly length: number; readonly allocated: boolean }>,
  sizeBytes: number,
  columns: number | undefined,
  env: NodeJS.ProcessEnv = process.env,
): Generator<string> {
  const width = Math.max(MIN_COLUMNS, Math.min(columns ?? DEFAULT_COLUMNS, 160));
  const blocks = Math.max(1, Math.ceil(sizeBytes / BLOCK_BYTES));
  const cellBytes = Math.ceil(blocks / (width * MAX_ROWS)) * BLOCK_BYTES;
  const cells = new Float64Array(Math.ceil(sizeBytes / cellBytes));
  for (const { offset, length, allocated } of extents) {
    if (!allocated) continue;
    for (let at = offset; at < offset + length; ) {
      const cell = Math.floor(at / cellBytes);
      const stop = Math.min(offset + length, (cell + 1) * cellBytes);
      cells[cell] = (cells[cell] ?? 0) + stop - at;
      at = stop;
    }
  }
  const shades = SHADES[speaksUnicode(env) ? "unicode" : "ascii"];
  for (let row = 0; row < cells.length; row += width) {
    let line = "";
    for (let cell = row; cell < Math.min(cells.length, row + width); cell++) {
      line += shadeOf(cells[cell] ?? 0, Math.min(cellBytes, sizeBytes - cell * cellBytes), shades);
    }
    yield `${line}\n`;
  }
  const [none, ...some] = shades;
  yield `${none} from the base   ${some.slice(0, -1).join("")} in part   ${some.at(-1)} held by the cowfile   (a cell is ${roundedSize(cellBytes)})\n`;
}
