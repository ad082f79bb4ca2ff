/**
 * Owns the picture of an image as SVG, for a report: a grid of cells, shaded by how much of each is covered, redundant
 * parts in a colour of their own, and below it how fragmented it all is. Plain SVG 1.1, nothing loaded from elsewhere.
 */
import type { Extent } from "../../lib/bytes/extent.ts";
import { formatSize, roundedSize } from "../../lib/bytes/size.ts";
import { escapeControls } from "./escape.ts";
import { coverCells, type Extents } from "./map-cells.ts";

const COLUMNS = 96;
const ROWS = 48;
const CELL = 9;
const GAP = 1;
const MARGIN = 24;
const HEADER = 62;
const BAR_HEIGHT = 90;
const FONT = "font-family='sans-serif' fill='#1f2933'";

/** Sizes of extents that the lower picture counts: up to 4 KiB, 64 KiB, 1 MiB, 16 MiB, more. */
const CLASSES = [4096, 65536, 1 << 20, 1 << 24, Number.POSITIVE_INFINITY] as const;

export interface SvgMap {
  readonly title: string;
  /** What the shaded parts are: `held by vm1.cow`, `different`. */
  readonly meaning: string;
  readonly sizeBytes: number;
  readonly extents: Extents;
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
  // These two are all that is left of what XML 1.0 has no way to write.
  return escapeControls(text)
    .replace(/[&<>'"]/g, (character) => named[character] ?? character)
    .replace(/[\ufffe\uffff]/g, "?");
}

interface Counted {
  readonly extents: AsyncIterable<Extent>;
  readonly classes: number[];
  total: number;
  bytes: number;
}

/** Counts extents by size while somebody else reads them. */
function counting(extents: Extents): Counted {
  const counted: Counted = {
    classes: CLASSES.map(() => 0),
    total: 0,
    bytes: 0,
    extents: {
      async *[Symbol.asyncIterator]() {
        for await (const extent of extents) {
          const index = CLASSES.findIndex((limit) => extent.length <= limit);
          counted.classes[index] = (counted.classes[index] ?? 0) + 1;
          counted.total++;
          counted.bytes += extent.length;
          yield extent;
        }
      },
    },
  };
  return counted;
}

export async function* renderSvgMap(map: SvgMap): AsyncGenerator<string> {
  const width = COLUMNS * (CELL + GAP) + 2 * MARGIN;
  const counted = counting(map.extents);
  const { cellBytes, covered } = await coverCells(counted.extents, map.sizeBytes, COLUMNS * ROWS);
  const redundant = map.redundant && (await coverCells(map.redundant, map.sizeBytes, COLUMNS * ROWS)).covered;
  const gridHeight = Math.ceil(covered.length / COLUMNS) * (CELL + GAP);
  const height = HEADER + gridHeight + 2 * MARGIN + BAR_HEIGHT + 40;
  const share = map.sizeBytes === 0 ? 0 : (counted.bytes / map.sizeBytes) * 100;
  yield `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 ${width} ${height}' width='${width}' height='${height}' role='img'>\n`;
  yield `<title>${escapeXml(map.title)}</title>\n<rect width='100%' height='100%' fill='#ffffff'/>\n`;
  yield `<text x='${MARGIN}' y='30' font-size='18' font-weight='bold' ${FONT}>${escapeXml(map.title)}</text>\n`;
  yield `<text x='${MARGIN}' y='50' font-size='12' ${FONT}>${escapeXml(
    `${formatSize(map.sizeBytes)} image, ${formatSize(counted.bytes)} (${share.toFixed(share < 1 ? 3 : 1)} %) ${map.meaning} in ${counted.total} extents; a cell is ${roundedSize(cellBytes)}`,
  )}</text>\n`;
  for (let cell = 0; cell < covered.length; cell++) {
    const x = MARGIN + (cell % COLUMNS) * (CELL + GAP);
    const y = HEADER + Math.floor(cell / COLUMNS) * (CELL + GAP);
    const size = Math.min(cellBytes, map.sizeBytes - cell * cellBytes);
    yield `<rect x='${x}' y='${y}' width='${CELL}' height='${CELL}' fill='#e4e7eb'/>\n`;
    yield* shade(x, y, (covered[cell] ?? 0) / size, "#1f5fa8");
    yield* shade(x, y, (redundant?.[cell] ?? 0) / size, "#d9822b");
  }
  yield* legend(MARGIN, HEADER + gridHeight + 18, map, redundant !== undefined);
  yield* fragmentation(HEADER + gridHeight + 44, width, counted);
  yield "</svg>\n";
}

/** Something, however little, is always visible. */
function* shade(x: number, y: number, share: number, colour: string): Generator<string> {
  if (share <= 0) return;
  const opacity = Math.min(1, 0.3 + 0.7 * share);
  yield `<rect x='${x}' y='${y}' width='${CELL}' height='${CELL}' fill='${colour}' fill-opacity='${opacity.toFixed(2)}'/>\n`;
}

function* legend(x: number, y: number, map: SvgMap, hasRedundant: boolean): Generator<string> {
  const entries: [string, string][] = [
    ["#e4e7eb", "not"],
    ["#1f5fa8", `${map.meaning} (darker: more of the cell)`],
  ];
  if (hasRedundant) entries.push(["#d9822b", "redundant: allocated, but the same as the backing"]);
  let at = x;
  for (const [colour, words] of entries) {
    yield `<rect x='${at}' y='${y - 9}' width='10' height='10' fill='${colour}'/>\n`;
    yield `<text x='${at + 15}' y='${y}' font-size='12' ${FONT}>${escapeXml(words)}</text>\n`;
    at += 40 + words.length * 6.6;
  }
}

function* fragmentation(top: number, width: number, { classes, total }: Counted): Generator<string> {
  yield `<text x='${MARGIN}' y='${top + 10}' font-size='12' font-weight='bold' ${FONT}>extents by size</text>\n`;
  const step = (width - 2 * MARGIN) / CLASSES.length;
  const largest = Math.max(1, ...classes);
  for (const [i, count] of classes.entries()) {
    const barHeight = (count / largest) * (BAR_HEIGHT - 40);
    const x = MARGIN + i * step;
    const y = top + BAR_HEIGHT - barHeight;
    const limit = CLASSES[i] ?? 0;
    const name = Number.isFinite(limit) ? `to ${roundedSize(limit)}` : "larger";
    yield `<rect x='${x}' y='${y.toFixed(1)}' width='${(step * 0.6).toFixed(1)}' height='${barHeight.toFixed(1)}' fill='#52606d'/>\n`;
    yield `<text x='${x}' y='${top + BAR_HEIGHT + 16}' font-size='11' ${FONT}>${name}: ${count}${total === 0 ? "" : ` (${((count / total) * 100).toFixed(0)} %)`}</text>\n`;
  }
}
