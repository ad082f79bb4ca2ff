/**
 * Owns the summary of a conversion for people: what was written, and what was lost.
 */
import { formatSize } from "../../lib/bytes/size.ts";
import type { ConvertResult } from "../../lib/operations/convert/request.ts";
import { escapeControls } from "./escape.ts";

export function* convertSummary(result: ConvertResult): Generator<string> {
  const output = escapeControls(result.output);
  const over = result.base === null ? "" : ` over ${escapeControls(result.base)}`;
  const image = `${result.to}, ${formatSize(result.virtual_size)}${over}`;
  const holds = `${formatSize(result.bytes_held)} of data in a file of ${formatSize(result.output_size)}`;
  yield result.dry_run
    ? `${output}: would write ${image}, ${holds}; nothing was changed (--dry-run)\n`
    : `${output}: wrote ${image}, ${holds}\n`;
  if (result.resumed_at !== null) yield `the interrupted conversion was resumed at byte ${result.resumed_at}\n`;
  for (const { id, message } of result.losses) yield `lost: ${escapeControls(message)} (${id})\n`;
}
