/**
 * Owns what a person is told after a cowfile or another file was made, or made anew: what is in it, and what it is over.
 */
import type { Extent } from "../../lib/bytes/extent.ts";
import { formatSize } from "../../lib/bytes/size.ts";
import { OWN } from "../../lib/device/own-file.ts";
import { atByte } from "../../lib/errors.ts";
import type { ConvertResult } from "../../lib/operations/convert/request.ts";
import type { CreateResult } from "../../lib/operations/create.ts";
import type { CreateStoreResult } from "../../lib/operations/create-store.ts";
import type { PackResult } from "../../lib/operations/pack/request.ts";
import type { RebaseResult } from "../../lib/operations/rebase.ts";
import type { ResizeResult } from "../../lib/operations/resize.ts";
import type { ThreeWayResult } from "../../lib/operations/three-way.ts";
import { escapeControls } from "./escape.ts";
import { renderKeyValue } from "./key-value.ts";

const BLOCK_BYTES = 1024;

export function inBlocks(count: number): string {
  return `${count} ${count === 1 ? "block" : "blocks"}`;
}

/** @param all where bitmap and data are, too */
export function createSummary(result: CreateResult, all: boolean): string {
  const { cowfile, rdofile, abi, identity, map_size, data_offset, blocks_used } = result;
  return renderKeyValue([
    ["cowfile", cowfile],
    ["over", rdofile],
    ["abi", abi],
    ["image size", formatSize(result.virtual_size)],
    ["fingerprint", result.fingerprint],
    ["blocks used", `${blocks_used} of ${result.rdo_blocks}`],
    ["base record", identity.recorded ? `${cowfile}${OWN.baseRecord.suffix}` : "none"],
    ["stack file", result.stack],
    ["bitmap", all ? `${map_size} bytes at byte 1024` : undefined],
    ["data from", all ? `byte ${data_offset}` : undefined],
    ["data", all ? formatSize(blocks_used * BLOCK_BYTES) : undefined],
  ]);
}

export function storeSummary(result: CreateStoreResult): string {
  return renderKeyValue([
    ["store", result.cowfile],
    ["over", result.rdofile],
    ["image size", formatSize(result.virtual_size)],
    ["chunk size", formatSize(result.chunk_size)],
    ["exceptions", `${result.exceptions}`],
    ["store size", formatSize(result.store_size)],
    ["stack file", result.stack],
  ]);
}

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

/** @param made the new file */
export function packSummary({ blocks, format, bytes_in, bytes_out }: PackResult, made: string): string {
  return `${escapeControls(made)}: ${inBlocks(blocks)} (${format}), ${formatSize(bytes_in)} in, ${formatSize(bytes_out)} out\n`;
}

export function* rebaseSummary(result: RebaseResult): Generator<string> {
  const { blocks_added, blocks_dropped, blocks_before, blocks_used, rdo_blocks, dry_run } = result;
  const [cowfile, to] = [escapeControls(result.cowfile), escapeControls(result.to)];
  if (result.already_done) {
    yield `${cowfile}: is over ${to} already, nothing written\n`;
    return;
  }
  const end = dry_run ? "; nothing was changed (--dry-run)" : "";
  const would = dry_run ? "would be" : "is now";
  if (result.unsafe) {
    yield `${cowfile}: ${would} over ${to}, and shows something else wherever that differs from its former base${end}\n`;
    return;
  }
  const dropped = blocks_dropped === 0 ? "" : `, ${inBlocks(blocks_dropped)} given up as the same`;
  yield `${cowfile}: ${would} over ${to}, ${inBlocks(blocks_added)} copied up${dropped}${end}\n`;
  const size = formatSize(blocks_used * BLOCK_BYTES);
  yield `${cowfile}: ${dry_run ? "would hold" : "holds"} ${blocks_used} of ${inBlocks(rdo_blocks)}, ${size}; before: ${blocks_before}\n`;
}

const SHOWN_CONFLICTS = 20;

/** @param view.all show every conflict */
export function* threeWaySummary(result: ThreeWayResult, view: { readonly all: boolean }): Generator<string> {
  const { conflicts, bytes_in_conflict, preferred, written, dry_run, from_a, from_b, in_both } = result;
  const [output, a, b] = [result.output, result.cowfile, result.sibling].map(escapeControls);
  const chosen = preferred === "a" ? a : b;
  let count = 0;
  for (const { offset, length } of conflicts as Iterable<Extent>)
    if (count++ < SHOWN_CONFLICTS || view.all) yield `conflict: ${formatSize(length)} at ${atByte(offset)}\n`;
  if (count > SHOWN_CONFLICTS && !view.all) yield `conflict: and ${count - SHOWN_CONFLICTS} more (-v shows them)\n`;
  if (bytes_in_conflict > 0 && preferred === null) {
    yield `${output}: not written, ${a} and ${b} changed the same ${formatSize(bytes_in_conflict)} to different things; --prefer a or b decides\n`;
    return;
  }
  const parts = `${formatSize(from_a)} of ${a}, ${formatSize(from_b)} of ${b}, ${formatSize(in_both)} the same in both`;
  const decided = bytes_in_conflict === 0 ? "" : `, ${formatSize(bytes_in_conflict)} in conflict taken from ${chosen}`;
  const end = dry_run ? "; nothing was changed (--dry-run)" : "";
  yield `${output}: ${written ? "holds" : "would hold"} ${parts}${decided}${end}\n`;
}

export function* resizeSummary(result: ResizeResult): Generator<string> {
  const { virtual_size: size, base_blocks, blocks_dropped, dry_run } = result;
  const cowfile = escapeControls(result.cowfile);
  if (result.already_done) {
    yield `${cowfile}: has ${formatSize(size)} already, nothing written\n`;
    return;
  }
  const end = dry_run ? "; nothing was changed (--dry-run)" : "";
  yield `${cowfile}: ${dry_run ? "would have" : "now has"} ${formatSize(size)}; before: ${formatSize(result.virtual_size_before)}${end}\n`;
  if (blocks_dropped > 0)
    yield `${cowfile}: beyond the end, ${blocks_dropped} allocated ${blocks_dropped === 1 ? "block" : "blocks"} ${dry_run ? "would be lost" : "lost"}\n`;
  const base = base_blocks * BLOCK_BYTES;
  if (base !== size)
    yield `${cowfile}: its base has ${formatSize(base)} and stays as it is; the original driver takes the cowfile only with a base of ${formatSize(size)}\n`;
}
