/**
 * Owns tables for people: the `table` package behind the care it needs (it throws on control characters, on zero rows
 * and on ragged rows, and doesn't fit the terminal).
 */
import type { TableUserConfig } from "table";
import { escapeControls } from "./escape.ts";
import { displayWidth } from "./width.ts";

const GAP = 2;
const ROWS_AT_ONCE = 1000;
/** No column is squeezed below this, even if the table then is wider than the terminal. */
const NARROWEST = 8;
/** Where nothing says how wide a line may be. */
const DEFAULT_COLUMNS = 80;

export type Row = readonly (string | number)[];

export interface TableView {
  /** Width to fit into; 80 unless given. */
  readonly columns?: number | undefined;
  /** Colours a cell that is escaped already. */
  readonly paint?: (cell: string, column: number) => string;
}

/** Takes width from the widest column, one character at a time, until the table fits. */
function fitWidths(natural: readonly number[], columns: number): number[] {
  const widths = [...natural];
  let excess = widths.reduce((sum, width) => sum + width, 0) - columns + GAP * (widths.length - 1);
  for (; excess > 0; excess--) {
    const widest = Math.max(...widths);
    if (widest <= NARROWEST) break;
    widths[widths.indexOf(widest)] = widest - 1;
  }
  return widths;
}

/**
 * Rows are rendered some at a time, so that their number does not matter; all of them decide on the widths before.
 *
 * @param header names of the columns; longer rows are cut to it, shorter ones filled up
 * @param rows gone through twice
 * @returns lines, each ended; only the header's line when there are no rows
 */
export async function* renderTable(
  header: readonly string[],
  rows: Iterable<Row>,
  { columns = DEFAULT_COLUMNS, paint = (cell) => cell }: TableView = {},
): AsyncGenerator<string> {
  if (header.length === 0) return;
  const cellsOf = (row: Row): string[] => header.map((_, index) => escapeControls(String(row[index] ?? "")));
  const natural = header.map((name) => Math.max(1, displayWidth(name)));
  for (const row of rows)
    for (const [i, cell] of cellsOf(row).entries()) natural[i] = Math.max(natural[i] ?? 1, displayWidth(cell));
  const widths = fitWidths(natural, columns);
  const { getBorderCharacters, table } = await import("table");
  const config: TableUserConfig = {
    border: getBorderCharacters("void"),
    drawHorizontalLine: () => false,
    columnDefault: { paddingLeft: 0, paddingRight: GAP },
    columns: widths.map((width) => ({ width, wrapWord: true })),
  };
  const render = (cells: string[][]): string => table(cells, config).replace(/ +$/gm, "");
  let batch = [cellsOf(header)];
  for (const row of rows) {
    batch.push(cellsOf(row).map(paint));
    if (batch.length < ROWS_AT_ONCE) continue;
    yield render(batch);
    batch = [];
  }
  if (batch.length > 0) yield render(batch);
}
