/**
 * Owns the picture of an image as SVG, for a report: a grid of cells, each in the colour of the part of a stack that holds
 * most of it, redundant parts in a colour of their own, and below it how fragmented it all is. Plain SVG 1.1, nothing loaded
 * from elsewhere; all cells of one colour and shade are one path, so that the size is bounded.
 */
import type { Extent } from "../../lib/bytes/extent.ts";
import { formatSize, roundedSize } from "../../lib/bytes/size.ts";
import { escapeControls } from "./escape.ts";
import { coverCells, type Extents } from "./map-cells.ts";

const COLUMNS = 96;
const ROWS = 48;
const CELL = 10;
const MARGIN = 24;
const HEADER = 62;
const BAR_HEIGHT = 90;
const FONT = "font-family='sans-serif' fill='#1f2933'";

const BASE_COLOUR = "#e4e7eb";
const REDUNDANT_COLOUR = "#d9822b";
/** Of layers, bottom to top; the last again and again for more. Told apart without red and green, too. */
const LAYER_COLOURS = ["#1f5fa8", "#3a9d8f", "#8a4fae", "#b8a01d", "#c2456b", "#52606d"] as const;
/** How dark a cell is, of which up to a quarter, a half, … is held. Something, however little, is always visible. */
const SHADES = [0.4, 0.6, 0.8, 1] as const;

/** Sizes of extents that the lower picture counts: up to 4 KiB, 64 KiB, 1 MiB, 16 MiB, more. */
const CLASSES = [4096, 65536, 1 << 20, 1 << 24, Number.POSITIVE_INFINITY] as const;

/** A layer, or another part with its own colour. */
export interface MapPart {
  /** `in vm1.cow`, `different` */
  readonly words: string;
  readonly extents: Extents;
}

export interface SvgMap {
  readonly title: string;
  readonly sizeBytes: number;
  /** What all that is in no part is: `from the base`. */
  readonly rest: string;
  /** Bottom to top; where several hold the same bytes, the caller says which shows. */
  readonly parts: readonly MapPart[];
  readonly redundant?: Extents;
}

function escapeXml(text: string): string {
  const named: Readonly<Record<string, string>> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "'": "&#39;",
    '"': "&quot;",
  };
  // XML 1.0 cannot express these two characters.
  return escapeControls(text)
    .replace(/[&<>'"]/g, (character) => named[character] ?? character)
    .replace(/[\ufffe\uffff]/g, "?");
}

class ExtentCounts {
  readonly classes: number[] = CLASSES.map(() => 0);
  total = 0;
  bytes = 0;

  /** The extents, counted by size while they are read. */
  async *of(extents: Extents): AsyncGenerator<Extent> {
    for await (const extent of extents) {
      const index = CLASSES.findIndex((limit) => extent.length <= limit);
      this.classes[index] = (this.classes[index] ?? 0) + 1;
      this.total++;
      this.bytes += extent.length;
      yield extent;
    }
  }
}

function colourOf(part: number): string {
  return LAYER_COLOURS[Math.min(part, LAYER_COLOURS.length - 1)] ?? BASE_COLOUR;
}

/** Rows of cells become strokes of one unit's width, which are a third of the text that rectangles are. */
class Strokes {
  readonly #paths = new Map<string, string>();
  #last = { key: "", row: -1, end: -1 };
  #width = 0;

  add(cell: number, colour: string, share: number): void {
    const shade = SHADES[Math.min(SHADES.length - 1, Math.ceil(share * SHADES.length) - 1)];
    const key = `${colour}' stroke-opacity='${shade}`;
    const [row, column] = [Math.floor(cell / COLUMNS), cell % COLUMNS];
    const goesOn = this.#last.key === key && this.#last.row === row && this.#last.end === column;
    if (!goesOn) {
      this.#end();
      this.#paths.set(key, `${this.#paths.get(key) ?? ""}M${column} ${row}`);
    }
    this.#width++;
    this.#last = { key, row, end: column + 1 };
  }

  #end(): void {
    const { key } = this.#last;
    if (this.#width > 0) this.#paths.set(key, `${this.#paths.get(key)}h${this.#width}`);
    this.#width = 0;
  }

  *svg(): Generator<string> {
    this.#end();
    for (const [key, path] of this.#paths) yield `<path stroke='${key}' d='${path}'/>\n`;
  }
}

/** The cells: the largest part decides the colour, the sum of all parts the shade. */
async function* drawCells(map: SvgMap, counts: ExtentCounts): AsyncGenerator<string> {
  const cells = COLUMNS * ROWS;
  const [first, ...more] = map.parts;
  const { cellBytes, covered } = await coverCells(counts.of(first?.extents ?? []), map.sizeBytes, cells);
  const parts = [covered];
  for (const { extents } of more) parts.push((await coverCells(counts.of(extents), map.sizeBytes, cells)).covered);
  const redundant = map.redundant && (await coverCells(map.redundant, map.sizeBytes, cells)).covered;
  const share = map.sizeBytes === 0 ? 0 : (counts.bytes / map.sizeBytes) * 100;
  const [rows, rest] = [Math.floor(covered.length / COLUMNS), covered.length % COLUMNS];
  const what = map.parts.map(({ words }) => words).join(", ");
  yield text(
    MARGIN,
    50,
    12,
    `${formatSize(map.sizeBytes)} image, ${formatSize(counts.bytes)} (${share.toFixed(share < 1 ? 3 : 1)} %) ${what} in ${counts.total} extents; a cell is ${roundedSize(cellBytes)}`,
  );
  yield `<g transform='translate(${MARGIN} ${HEADER}) scale(${CELL})' fill='none'>\n`;
  yield `<path fill='${BASE_COLOUR}' d='M0 0h${COLUMNS}v${rows}H${rest}v${rest > 0 ? 1 : 0}H0z'/>\n<g transform='translate(0 .5)'>\n`;
  const strokes = new Strokes();
  for (let cell = 0; cell < covered.length; cell++) {
    const size = Math.min(cellBytes, map.sizeBytes - cell * cellBytes);
    const held = parts.map((each) => each[cell] ?? 0);
    const most = Math.max(...held);
    const same = redundant?.[cell] ?? 0;
    if (same > 0) strokes.add(cell, REDUNDANT_COLOUR, same / size);
    else if (most > 0)
      strokes.add(cell, colourOf(held.lastIndexOf(most)), held.reduce((sum, each) => sum + each, 0) / size);
  }
  yield* strokes.svg();
  const height = Math.ceil(covered.length / COLUMNS);
  const columns = Array.from({ length: COLUMNS + 1 }, (_, i) => `M${i} 0v${height}`).join("");
  const lines = Array.from({ length: height + 1 }, (_, i) => `M0 ${i}h${COLUMNS}`).join("");
  yield `</g>\n<path stroke='#ffffff' stroke-width='.1' d='${columns}${lines}'/>\n</g>\n`;
}

function text(x: number, y: number, size: number, words: string, more = ""): string {
  return `<text x='${x}' y='${y}' font-size='${size}' ${more}${FONT}>${escapeXml(words)}</text>\n`;
}

export async function* renderSvgMap(map: SvgMap): AsyncGenerator<string> {
  const width = COLUMNS * CELL + 2 * MARGIN;
  const counts = new ExtentCounts();
  let cells = "";
  for await (const piece of drawCells(map, counts)) cells += piece;
  const cellCount = COLUMNS * ROWS;
  const blocks = Math.max(1, Math.ceil(map.sizeBytes / 1024));
  const gridHeight = Math.ceil(Math.ceil(blocks / Math.ceil(blocks / cellCount)) / COLUMNS) * CELL;
  const legends = legend(MARGIN, HEADER + gridHeight + 18, width, map);
  const bottom = HEADER + gridHeight + 18 + (legends.rows - 1) * 18;
  const height = bottom + 26 + 2 * MARGIN + BAR_HEIGHT;
  yield `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 ${width} ${height}' width='${width}' height='${height}' role='img'>\n`;
  yield `<title>${escapeXml(map.title)}</title>\n<rect width='100%' height='100%' fill='#ffffff'/>\n`;
  yield text(MARGIN, 30, 18, map.title, "font-weight='bold' ");
  yield cells + legends.svg;
  yield* fragmentation(bottom + 26, width, counts);
  yield "</svg>\n";
}

function legend(
  left: number,
  top: number,
  width: number,
  map: SvgMap,
): { readonly svg: string; readonly rows: number } {
  const entries = [
    [BASE_COLOUR, map.rest],
    ...map.parts.map(({ words }, part) => [colourOf(part), words] as const),
    ...(map.redundant ? [[REDUNDANT_COLOUR, "redundant: allocated, but the same as the backing"] as const] : []),
    ["", "darker: more of the cell"],
  ] as const;
  let [x, y, svg, rows] = [left, top, "", 1];
  for (const [colour, words] of entries) {
    const wide = 40 + words.length * 6.6;
    if (x > left && x + wide > width - MARGIN) {
      [x, y] = [left, y + 18];
      rows++;
    }
    if (colour !== "") svg += `<rect x='${x}' y='${y - 9}' width='10' height='10' fill='${colour}'/>\n`;
    svg += text(x + (colour === "" ? 0 : 15), y, 12, words);
    x = Math.round(x + wide);
  }
  return { svg, rows };
}

function* fragmentation(top: number, width: number, { classes, total }: ExtentCounts): Generator<string> {
  yield text(MARGIN, top + 10, 12, "extents by size", "font-weight='bold' ");
  const step = (width - 2 * MARGIN) / CLASSES.length;
  const largest = Math.max(1, ...classes);
  for (const [i, count] of classes.entries()) {
    const barHeight = (count / largest) * (BAR_HEIGHT - 40);
    const x = MARGIN + i * step;
    const y = top + BAR_HEIGHT - barHeight;
    const limit = CLASSES[i] ?? 0;
    const name = Number.isFinite(limit) ? `to ${roundedSize(limit)}` : "larger";
    yield `<rect x='${x}' y='${y.toFixed(1)}' width='${(step * 0.6).toFixed(1)}' height='${barHeight.toFixed(1)}' fill='#52606d'/>\n`;
    yield text(
      x,
      top + BAR_HEIGHT + 16,
      11,
      `${name}: ${count}${total === 0 ? "" : ` (${((count / total) * 100).toFixed(0)} %)`}`,
    );
  }
}
