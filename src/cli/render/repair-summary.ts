/**
 * Owns what a person is told after a repair: what was done, what is left, what to do next.
 */
import { formatSize } from "../../lib/bytes/size.ts";
import type { RepairReport } from "../../lib/formats/format.ts";

const BLOCK_BYTES = 1024;

function blocks(count: number): string {
  return `${count} ${count === 1 ? "block" : "blocks"}`;
}

export function* repairSummary(file: string, report: RepairReport, dryRun: boolean): Generator<string> {
  if (!report.examined) {
    yield `${file}: is clean, nothing done (-f examines it all the same)\n`;
    return;
  }
  const verb = dryRun ? "would be " : "";
  const marked = report.marked.totalBytes / BLOCK_BYTES;
  if (marked > 0) yield `${file}: ${blocks(marked)} ${verb}newly marked (${formatSize(report.marked.totalBytes)})\n`;
  const cleared = report.cleared.totalBytes / BLOCK_BYTES;
  if (cleared > 0) yield `${file}: the marks of ${blocks(cleared)} ${verb}cleared\n`;
  if (report.suspectBlocks > 0) {
    let alone = 0;
    for (const { length, evidence } of report.suspects) if (evidence === "alone") alone += length / BLOCK_BYTES;
    yield `${file}: ${blocks(report.suspectBlocks)} suspect: allocated and zero, but not marked` +
      (alone > 0
        ? `; ${alone} of them may be zeros written before the crash (-v names them)\n`
        : ", all beside other data\n");
  }
  const lost = report.lost.totalBytes / BLOCK_BYTES;
  if (lost > 0)
    yield `${file}: ${blocks(lost)} lost: marked, but beyond the end of the file (--drop-lost clears the marks)\n`;
  if (dryRun) yield `${file}: ${report.changed ? "nothing was changed (--dry-run)" : "nothing to repair"}\n`;
  else
    yield `${file}: ${report.changed ? "repaired and clean" : "was clean, nothing to repair"}, ${blocks(report.blocksUsed)} used\n`;
}
