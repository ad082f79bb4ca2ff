/**
 * Owns how `serve` says that it is ready: the URIs, one a line, and several of them on a terminal as a table.
 */
import { roundedSize } from "../../lib/bytes/size.ts";
import type { Ready } from "../../lib/nbd/server/serve-request.ts";
import { type Row, renderTable } from "./table.ts";
import type { Text } from "./text.ts";

/** @param isTerminal a program that reads the lines expects URIs and nothing else */
export function renderExports({ exports }: Ready, isTerminal: boolean): Text {
  if (!isTerminal || exports.length < 2) return exports.flatMap(({ uri, more_uris }) => [uri, ...more_uris]).join("\n");
  const rows = exports.flatMap(({ name, access, virtual_size, uri, more_uris }): Row[] => [
    [name === "" ? "(default)" : name, access, roundedSize(virtual_size), uri],
    ...more_uris.map((more) => ["", "", "", more]),
  ]);
  // A URI is copied from here: it must not be broken.
  return renderTable(["EXPORT", "ACCESS", "SIZE", "URI"], rows, { columns: Number.POSITIVE_INFINITY });
}
