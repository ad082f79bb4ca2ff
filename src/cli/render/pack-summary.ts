/**
 * Owns the summary of packing and unpacking for people.
 */
import { formatSize } from "../../lib/bytes/size.ts";
import type { PackResult } from "../../lib/operations/pack/request.ts";
import { escapeControls } from "./escape.ts";

/** @param made the new file */
export function packSummary({ blocks, format, bytes_in, bytes_out }: PackResult, made: string): string {
  return `${escapeControls(made)}: ${blocks} ${blocks === 1 ? "block" : "blocks"} (${format}), ${formatSize(bytes_in)} in, ${formatSize(bytes_out)} out\n`;
}
