/**
 * Owns turning a survey into problems of the table: the one list that `check`, `repair` and `repair -n` report.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { type Extent, ExtentList } from "../../bytes/extent.ts";
import { atByte } from "../../errors.ts";
import type { Problem, Suspect } from "../format.ts";
import type { CowGeometry } from "./geometry.ts";
import { type CowHead, isDirty } from "./head.ts";
import { BLOCK_BYTES, fieldPlace, HEAD_BLOCK_BYTES, headLayout } from "./layout.ts";
import { FAULT_WORDS, type LastSession } from "./live/last-session.ts";
import { clearStamp, readStamp, STAMP_BYTES } from "./live/stamp.ts";
import { type CowProblemId, cowProblem } from "./problems.ts";
import { clearResized, readResized } from "./resized.ts";
import type { Survey } from "./survey.ts";

export interface Findings {
  readonly head: CowHead;
  readonly headBlock: Uint8Array;
  readonly geometry: CowGeometry;
  readonly survey: Survey;
  readonly source: ByteSource;
  /** Of the head, and of the base if one was given. */
  readonly other: readonly Problem[];
  /** Of an unpacked file. */
  readonly session?: LastSession;
  /** Blocks of a session before the last restart that no flush covered, if they were searched. */
  readonly inDoubt?: ExtentList;
}

function* problemsOfSession(session: LastSession | undefined): Generator<Problem> {
  if (!session || !("stamp" in session)) return;
  const place = { offset: session.stamp.offset, length: STAMP_BYTES };
  const served = `cowtool was serving it, as it says at ${atByte(place.offset)}`;
  if (session.kind === "killed")
    yield cowProblem("live", place, `${served}: its allocated blocks are known without a search`);
  else if (session.kind === "restarted")
    yield cowProblem("live", place, `${served}, and the machine was restarted since: what flushes covered is there`);
  else
    yield cowProblem(
      "journal-unusable",
      place,
      `${served}, but its journal ${FAULT_WORDS[session.fault]}: a search finds blocks that hold data, but no zeros written since the last flush`,
    );
}

function blocksText({ offset, length }: Extent): string {
  const first = offset / BLOCK_BYTES;
  const count = length / BLOCK_BYTES;
  return count === 1 ? `block ${first}` : `blocks ${first} to ${first + count - 1}`;
}

/** All problems, head first; each extent becomes a problem when it is read. */
export function* findingsOf(findings: Findings): Generator<Problem> {
  const { head, headBlock, geometry, survey, source } = findings;
  const flags = fieldPlace(head, "flags");
  const stamp = readStamp(head, headBlock);
  if (isDirty(head)) yield cowProblem("dirty", flags, `is marked dirty at ${atByte(flags.offset)}: it was not closed`);
  yield* stamp ? findings.other.filter(({ id }) => id !== "unknown-flags") : findings.other;
  const used = fieldPlace(head, "cowused");
  // While dirty, the count is that of the last sync, as it should be.
  if (!isDirty(head) && head.used !== BigInt(survey.usedBefore)) {
    yield cowProblem(
      "used-count",
      used,
      `the head counts ${head.used} used blocks at ${atByte(used.offset)}, but ${survey.usedBefore} are allocated`,
    );
  }
  const structBytes = headLayout(head.abi).sizeBytes;
  yield* problemsOfSession(findings.session);
  const tail = Uint8Array.from(headBlock);
  if (stamp) clearStamp(stamp, tail);
  const baseBlocks = readResized(head, headBlock);
  if (baseBlocks !== undefined) {
    clearResized(tail);
    yield cowProblem(
      "resized",
      fieldPlace(head, "rdoblocks"),
      `was resized: an image of ${head.rdoBlocks} blocks over a base of ${baseBlocks}`,
    );
  }
  if (tail.subarray(structBytes).some((byte) => byte !== 0)) {
    yield cowProblem(
      "head-tail",
      { offset: structBytes, length: HEAD_BLOCK_BYTES - structBytes },
      `the head block holds something after the head, from ${atByte(structBytes)}`,
    );
  }
  const inFile = (id: CowProblemId, list: ExtentList, words: string): Iterable<Problem> =>
    problemsFor(id, list, geometry, words);
  yield* inFile("bits-beyond-end", survey.beyondEnd, `allocated, but the image has only ${geometry.rdoBlocks} blocks`);
  yield* inFile(
    "data-lost",
    survey.lost,
    `allocated, but the file ends before, at ${atByte(source.sizeBytes)}: the data is lost`,
  );
  if (survey.neededFileBytes !== undefined) {
    const missing = survey.neededFileBytes - source.sizeBytes;
    const block = (survey.neededFileBytes - geometry.dataOffsetBytes) / BLOCK_BYTES - 1;
    yield cowProblem(
      "short-block",
      { offset: source.sizeBytes, length: missing },
      `block ${block} is cut short by the end of the file at ${atByte(source.sizeBytes)}: ${missing} bytes are missing`,
    );
  }
  const kind = findings.session?.kind;
  const isKnown = kind === "killed" || kind === "restarted";
  const where = isKnown
    ? "written since the last flush, allocated only in the journal"
    : "holding data, but not allocated";
  yield* inFile("unmarked-data", survey.unmarked, where);
  yield* inFile(
    "unflushed-data",
    findings.inDoubt ?? new ExtentList(),
    "written before the restart, and not covered by a flush",
  );
  for (const suspect of gradeSuspects(survey.suspects, source, geometry)) {
    // Of a clean file the neighbours say enough.
    if (suspect.evidence === "shared" && !isDirty(head)) continue;
    const offset = geometry.dataOffsetBytes + suspect.offset;
    const why =
      suspect.evidence === "alone" ? "and nothing else explains the space" : "beside other data in its allocation unit";
    yield cowProblem(
      "suspect-zeros",
      { offset, length: suspect.length },
      `${blocksText(suspect)} at ${atByte(offset)}: zeros with space in the file, but not allocated, ${why}`,
    );
  }
  const end = geometry.dataOffsetBytes + geometry.virtualSizeBytes;
  if (source.sizeBytes > end) {
    yield cowProblem(
      "trailing-data",
      { offset: end, length: source.sizeBytes - end },
      `the file continues after the last block, which ends at ${atByte(end)}`,
    );
  }
}

function* problemsFor(id: CowProblemId, list: ExtentList, geometry: CowGeometry, words: string): Generator<Problem> {
  for (const extent of list) {
    const offset = geometry.dataOffsetBytes + extent.offset;
    yield cowProblem(id, { offset, length: extent.length }, `${blocksText(extent)} at ${atByte(offset)}: ${words}`);
  }
  if (list.omitted > 0) {
    const end = geometry.dataOffsetBytes + list.end;
    yield cowProblem(
      id,
      { offset: end, length: 0 },
      `${list.omitted} more such places up to ${atByte(end)}, too many to list: ${words}`,
    );
  }
}

/** Grades suspects by what the storage's allocation units tell; see Suspect. */
export function* gradeSuspects(suspects: ExtentList, source: ByteSource, geometry: CowGeometry): Generator<Suspect> {
  const unit = source.allocationUnitBytes;
  const dataEnd = Math.min(source.sizeBytes, geometry.dataOffsetBytes + geometry.virtualSizeBytes);
  for (const { offset, length } of suspects) {
    const start = geometry.dataOffsetBytes + offset;
    const end = start + length;
    // The allocation units that contain nothing of the data area but this run; then, because blocks need not begin
    // where units do, every block of the run that reaches into one of them.
    const firstWhole = Math.ceil(start / unit) * unit;
    const lastWhole = end >= dataEnd ? end : Math.floor(end / unit) * unit;
    const firstBlock = start + Math.floor((firstWhole - start) / BLOCK_BYTES) * BLOCK_BYTES;
    const lastBlock = start + Math.ceil((lastWhole - start) / BLOCK_BYTES) * BLOCK_BYTES;
    const alone = firstWhole < lastWhole ? { from: firstBlock, to: lastBlock } : undefined;
    const pieces: [number, number, Suspect["evidence"]][] = alone
      ? [
          [start, alone.from, "shared"],
          [alone.from, alone.to, "alone"],
          [alone.to, end, "shared"],
        ]
      : [[start, end, "shared"]];
    for (const [from, to, evidence] of pieces) {
      if (to > from) yield { offset: from - geometry.dataOffsetBytes, length: to - from, evidence };
    }
  }
}
