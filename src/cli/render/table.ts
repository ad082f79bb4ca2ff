/**
 * Owns tables for people: the `table` package behind the care it needs (it throws on control characters, on zero rows
 * and on ragged rows, and doesn't fit the terminal). Must not be used for millions of rows: it holds them all.
 */
import type { TableUserConfig } from "table";
import { escapeControls } from "./escape.ts";

const GAP = 2;
/** No column is squeezed below this, even if the table then is wider than the terminal. */
const NARROWEST = 8;

/** Takes width from the widest column, one character at a time, until the table fits. */
function fitWidths(natural: readonly number[], columns: number | undefined): number[] {
  const widths = [...natural];
  const available = (columns ?? Number.POSITIVE_INFINITY) - GAP * (widths.length - 1);
  while (widths.reduce((sum, width) => sum + width, 0) > available) {
    const widest = Math.max(...widths);
    if (widest <= NARROWEST) break;
    widths[widths.indexOf(widest)] = widest - 1;
  }
  return widths;
}

/**
 * @param header names of the columns; longer rows are cut to it, shorter ones filled up
 * @param columns width to fit into, or undefined where nothing needs to fit
 * @returns lines, each ended; only the header's line when there are no rows
 */
export async function renderTable(
  header: readonly string[],
  rows: Iterable<readonly (string | number)[]>,
  columns?: number,
): Promise<string> {
  if (header.length === 0) return "";
  const cells = [header, ...rows].map((row) => header.map((_, index) => escapeControls(String(row[index] ?? ""))));
  const natural = header.map((_, index) => cells.reduce((widest, row) => Math.max(widest, row[index]?.length ?? 0), 1));
  const widths = fitWidths(natural, columns);
  const { getBorderCharacters, table } = await import("table");
  const config: TableUserConfig = {
    border: getBorderCharacters("void"),
    drawHorizontalLine: () => false,
    columnDefault: { paddingLeft: 0, paddingRight: GAP },
    columns: widths.map((width, index) => (width < (natural[index] ?? 0) ? { width, wrapWord: true } : {})),
  };
  return table(cells, config).replace(/ +$/gm, "");
}
