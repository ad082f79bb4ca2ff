/**
 * Owns the summary of a repair for people: what was done, what is left, what to do next.
 */
import { formatSize } from "../../lib/bytes/size.ts";
import { unflushedWords } from "../../lib/formats/cowfile/live/set-aside.ts";
import type { RepairReport } from "../../lib/formats/format.ts";
import { escapeControls } from "./escape.ts";
import { kindsOfProblems, problemsAsJson } from "./problems.ts";
import { inBlocks } from "./summaries.ts";
import type { Row } from "./table.ts";

const BLOCK_BYTES = 1024;

/** The result with the house's key names. */
export function repairAsJson(cowfile: string, report: RepairReport, dryRun: boolean): object {
  return {
    cowfile,
    state_before: report.stateBefore,
    state: report.state,
    corrections: report.marked.totalBytes / BLOCK_BYTES,
    blocks_used: report.blocksUsed,
    suspects: report.suspects,
    marked: report.marked,
    cleared: report.cleared,
    lost: report.lost,
    unflushed: report.setAside,
    unflushed_file: report.setAsideFile ?? null,
    unmarked_blocks: report.unmarkedBlocks,
    examined: report.examined,
    changed: report.changed,
    dry_run: dryRun,
    problems: problemsAsJson(report.problems),
  };
}

/** What a table of cowfiles says of a repair. */
export function repairRow(report: RepairReport): Row {
  return [report.stateBefore, report.state, report.marked.totalBytes / BLOCK_BYTES, kindsOfProblems(report.problems)];
}

/** Bytes of suspects without another explanation. */
function unexplained(report: RepairReport): number {
  let bytes = 0;
  for (const { length, evidence } of report.suspects) if (evidence === "alone") bytes += length;
  return bytes;
}

export interface RepairView {
  readonly dryRun: boolean;
  readonly verbose: boolean;
  /** Were the bits of lost blocks cleared? */
  readonly dropLost: boolean;
}

export function* repairSummary(path: string, report: RepairReport, view: RepairView): Generator<string> {
  const file = escapeControls(path);
  if (!report.examined) {
    yield `${file}: is marked clean, nothing done (-f examines it anyway)\n`;
    return;
  }
  const verb = view.dryRun ? "would be " : "";
  const { marked, cleared, lost } = report;
  if (marked.totalBytes > 0) {
    yield `${file}: ${inBlocks(marked.totalBytes / BLOCK_BYTES)} ${verb}newly allocated, ${formatSize(marked.totalBytes)}\n`;
  }
  if (cleared.totalBytes > 0)
    yield `${file}: the bitmap bits of ${inBlocks(cleared.totalBytes / BLOCK_BYTES)} ${verb}cleared\n`;
  const alone = unexplained(report);
  if (alone > 0) {
    yield `${file}: ${inBlocks(alone / BLOCK_BYTES)} suspect: zeros with space in the file, but not allocated, like zeros written just before the crash${view.verbose ? "" : " (-v names them)"}\n`;
  }
  if (view.verbose && report.suspectBlocks > 0) {
    yield `${file}: ${report.suspectBlocks - alone / BLOCK_BYTES} more unallocated blocks are zeros beside other data\n`;
  }
  if (lost.totalBytes > 0) {
    yield `${file}: ${inBlocks(lost.totalBytes / BLOCK_BYTES)} lost: allocated, but beyond the end of the file; the base's blocks are read instead (--drop-lost clears their bits)\n`;
  }
  if (report.setAside.totalBytes > 0) {
    const name = report.setAsideFile;
    yield `${file}: ${unflushedWords(report.setAside.totalBytes / BLOCK_BYTES, name && escapeControls(name))}\n`;
  }
  if (report.unmarkedBlocks > 0)
    yield `${file}: ${inBlocks(report.unmarkedBlocks)} held data without being allocated before cowtool served the file; left unchanged (-f allocates them)\n`;
  if (view.dryRun) yield `${file}: ${report.changed ? "nothing was changed (--dry-run)" : "nothing to repair"}\n`;
  else {
    const state = report.changed ? "repaired and marked clean" : "was clean, nothing to repair";
    yield `${file}: ${state}, ${report.blocksUsed} blocks used${lost.totalBytes > 0 ? ", but the lost ones stay lost" : ""}\n`;
  }
}
