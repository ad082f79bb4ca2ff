/**
 * Owns how the answer of `verify-fingerprint` is shown to people.
 */
import { formatSize } from "../../lib/bytes/size.ts";
import type { BaseReport, FingerprintResult } from "../../lib/operations/verify-fingerprint.ts";
import { escapeControls } from "./escape.ts";

const SHOWN = 8;

const HIDDEN_WORDS = {
  yes: "hidden by the cowfile",
  partly: "partly allocated in the cowfile",
  no: "shows through",
} as const;

/** @param view.all every place, and that nothing was noted, too */
export function* fingerprintReport(result: FingerprintResult, view: { readonly all: boolean }): Generator<string> {
  const rdofile = escapeControls(result.rdofile);
  const cowfile = escapeControls(result.cowfile);
  const { identity } = result;
  const known = `fingerprint ${result.fingerprint_actual}, ${result.rdo_blocks_actual} blocks`;
  if (!result.match) {
    yield `${cowfile}: does not belong to ${rdofile}\n`;
    yield `  made for  ${result.fingerprint_expected}, ${result.rdo_blocks_expected} blocks\n`;
    yield `  given     ${result.fingerprint_actual}, ${result.rdo_blocks_actual} blocks\n`;
  } else if (identity.shows_through) yield `${cowfile}: was made for ${rdofile} (${known}), which was changed since\n`;
  else yield `${cowfile}: belongs to ${rdofile} (${known})\n`;
  if (identity.verdict !== "changed") yield* calmLine(identity, view.all);
  else yield* changedLines(identity, view.all);
}

/** What a table of cowfiles says of their base. */
export function baseInWords({
  match,
  rdo_blocks_expected: blocks,
  rdo_blocks_actual: actual,
  identity,
}: FingerprintResult): string {
  if (!match)
    return Number(blocks) === actual ? "another image, or changed since" : `another: made for ${blocks} blocks`;
  if (identity.shows_through) return "changed since, and that shows through";
  return identity.verdict === "unknown" ? "not recorded" : identity.verdict;
}

function* calmLine(identity: BaseReport, all: boolean): Generator<string> {
  const { verdict, compared, recorded_at: when, compared_bytes: bytes, complete } = identity;
  if (verdict === "unknown") {
    if (all) yield "  its content was not compared: there is no base record beside the cowfile\n";
    return;
  }
  const whole = compared === "all" && complete;
  const looked = whole ? "" : `, as far as the ${formatSize(bytes)} that were compared show`;
  if (verdict === "merged") yield `  changed since ${when} only where the cowfile was merged into it${looked}\n`;
  else if (compared === "times") yield `  unchanged since ${when}, by its times (--full reads it)\n`;
  else if (verdict === "touched") yield `  its times are not those of ${when}, but its content is the same${looked}\n`;
  else yield `  its content is the same as on ${when}${looked}\n`;
}

function* changedLines({ recorded_at: when, changed_extents: changed }: BaseReport, all: boolean): Generator<string> {
  yield `  changed since ${when}:\n`;
  for (const { offset, length, hidden } of all ? changed : changed.slice(0, SHOWN))
    yield `    ${length} bytes at byte ${offset} (0x${offset.toString(16)}): ${HIDDEN_WORDS[hidden]}\n`;
  const left = changed.length - SHOWN;
  if (!all && left > 0) yield `    ${left} more (-v shows ${left === 1 ? "it" : "them"})\n`;
}
