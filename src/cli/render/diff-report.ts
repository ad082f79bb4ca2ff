/**
 * Owns how a diff is shown to people: extents, a hex dump of the first differing places, one line that sums it up.
 */
import { formatSize } from "../../lib/bytes/size.ts";
import type { DifferenceSample, DiffResult } from "../../lib/operations/diff/request.ts";
import { escapeControls } from "./escape.ts";
import { renderTable } from "./table.ts";

const SHOWN_EXTENTS = 20;
const ROW_BYTES = 16;

const WORDS = { changed: "changed", only_a: "only in A", only_b: "only in B" } as const;

/** The result with the house's key names. */
export function diffAsJson(a: string, b: string, result: DiffResult): object {
  const { identical, extents, redundant } = result;
  return {
    a,
    b,
    identical,
    virtual_size: result.virtualSizeBytes,
    bytes_different: result.bytesDifferent,
    extents,
    extents_omitted: result.extentsOmitted,
    redundant,
  };
}

/** The rows of the table of extents, made anew each time they are gone through. */
function rowsOf(extents: DiffResult["extents"], most: number): Iterable<readonly string[]> {
  return {
    *[Symbol.iterator]() {
      let count = 0;
      for (const { offset, length, kind } of extents) {
        if (count++ === most) return;
        yield [WORDS[kind], `${offset} (0x${offset.toString(16)})`, formatSize(length)];
      }
    },
  };
}

/** @param view everything there is, or what is enough at a glance; columns of the terminal, if there is one */
export async function* renderDiff(
  a: string,
  b: string,
  result: DiffResult,
  view: { readonly all: boolean; readonly columns: number | undefined },
): AsyncGenerator<string> {
  const { all, columns } = view;
  let count = 0;
  for (const _ of result.extents) count++;
  const shown = all ? count : Math.min(count, SHOWN_EXTENTS);
  if (shown > 0) yield* renderTable(["DIFFERENCE", "FROM BYTE", "LENGTH"], rowsOf(result.extents, shown), { columns });
  const left = result.extentsOmitted + count - shown;
  if (left > 0) yield `${left} more extents${all ? ", too many to list" : " (-v shows them)"}\n`;
  yield* renderHexdump(result.samples);
  const names = `${escapeControls(a)} and ${escapeControls(b)}`;
  if (result.identical) yield `${names} are identical, ${formatSize(result.virtualSizeBytes)}\n`;
  else yield `${names} differ in ${formatSize(result.bytesDifferent)} of ${formatSize(result.virtualSizeBytes)}\n`;
  const redundant = result.redundant.totalBytes;
  if (redundant > 0)
    yield `redundant: ${formatSize(redundant)} allocated in a layer are the same as the base (in ${result.redundant.count} extents)\n`;
}

/** Rows of 16 bytes, A above B, differing bytes marked below. */
function* renderHexdump(samples: readonly DifferenceSample[]): Generator<string> {
  for (const { offset, a, b } of samples) {
    const address = offset.toString(16).padStart(8, "0");
    yield `${address} A  ${hexRow(a)}  ${textRow(a)}\n`;
    yield `${" ".repeat(address.length)} B  ${hexRow(b)}  ${textRow(b)}\n`;
    const marks = Array.from(a, (byte, i) => (byte === b[i] ? "  " : "^^")).join(" ");
    yield `${" ".repeat(address.length)}    ${marks.trimEnd()}\n`;
  }
}

function hexRow(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"))
    .join(" ")
    .padEnd(ROW_BYTES * 3 - 1);
}

function textRow(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join("");
}
