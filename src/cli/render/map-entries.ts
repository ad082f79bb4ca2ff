/**
 * Owns how `map` shows its list to people: a line for each entry, written while the list is made, in columns whose widths
 * are known beforehand; or a picture.
 */
import { basename } from "node:path";
import { ExtentList } from "../../lib/bytes/extent.ts";
import type { MapEntry, MapResult } from "../../lib/operations/map.ts";
import { escapeControls } from "./escape.ts";
import { renderSvgMap } from "./svg-map.ts";

/** As wide as the largest offset that there is. */
const WIDTH = 18;
const KIND_WIDTH = 12;

function line(start: string, length: string, kind: string, offset: string, name: string): string {
  const numbers = start.padEnd(WIDTH) + length.padEnd(WIDTH);
  return `${numbers}${kind.padEnd(KIND_WIDTH)}${offset.padEnd(WIDTH)}${escapeControls(name)}`.trimEnd().concat("\n");
}

function kindOf({ present, zero, compressed }: MapEntry): string {
  if (!present) return "nothing";
  if (compressed) return "compressed";
  return zero ? "zeros" : "data";
}

/** @param names the files of the stack, by depth */
export async function* renderMap(names: readonly string[], entries: AsyncIterable<MapEntry>): AsyncGenerator<string> {
  yield line("start", "length", "is", "at byte", "of");
  for await (const entry of entries) {
    const { start, length, offset, depth, present } = entry;
    if (length === 0) continue;
    yield line(`${start}`, `${length}`, kindOf(entry), `${offset ?? "-"}`, present ? (names[depth] ?? "") : "-");
  }
}

/** The stack as a picture, each layer in a colour of its own. */
export async function* svgOfStack(
  title: string,
  { names, entries, virtualSizeBytes }: MapResult,
): AsyncGenerator<string> {
  const held = names.map(() => new ExtentList());
  for await (const { start, length, depth, present } of entries) if (present) held[depth]?.append(start, length);
  const parts = names.map((name, depth) => ({ words: `in ${basename(name)}`, extents: held[depth] ?? [] })).reverse();
  // A base alone has what it has; below layers it is all that they leave.
  const layers = parts.length > 1 ? parts.slice(1) : parts;
  const rest = parts.length > 1 ? "from the base" : "zeros";
  yield* renderSvgMap({ title, sizeBytes: virtualSizeBytes, rest, parts: layers });
}
