/**
 * Owns the aligned `name: value` list that most results are shown as. Must not format values: sizes and the like come
 * as finished strings.
 */
import { escapeControls } from "./escape.ts";

/** A row; one without a name continues with the one before, one whose value is undefined is left out, so that callers needn't branch. */
export type KeyValue = readonly [name: string, value: string | number | undefined];

/** One line a row, the values in one column. Every value stays on its line, whatever it contains. */
export function renderKeyValue(rows: readonly KeyValue[]): string {
  const shown = rows.filter(([, value]) => value !== undefined);
  const width = Math.max(0, ...shown.map(([name]) => name.length));
  return shown
    .map(([name, value]) => `${(name && `${name}:`).padEnd(width + 2)}${escapeControls(String(value))}\n`)
    .join("");
}
