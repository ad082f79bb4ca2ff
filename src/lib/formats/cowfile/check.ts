/**
 * Owns check and repair of a cowfile, and above all the order in which repair writes:
 * (1) the dirty mark, if the head says clean and the bitmap is about to change; flush
 * (2) bitmap parts, ascending; the file's new length, if the last block was cut short; flush
 * (3) of a server's file after a restart: what no flush covered copied to a file of its own, durably; then the stamp leaves
 *     the journal behind; flush; then that is swept; flush
 * (4) the head, clean and recounted; flush
 * Killed between any two writes the file is dirty, or as before, and the same command completes the work.
 */
import type { ByteSource, ByteTarget } from "../../bytes/byte-source.ts";
import { type Extent, ExtentList } from "../../bytes/extent.ts";
import { interrupted, makeYielder } from "../../context.ts";
import { assert } from "../../errors.ts";
import type { CheckOptions, CheckReport, Problem, RepairOptions, RepairReport, SurveyHooks } from "../format.ts";
import { remade, tally } from "../problems.ts";
import { type Findings, findingsOf, gradeSuspects } from "./findings.ts";
import { type CowGeometry, judgeHead } from "./geometry.ts";
import { type CowHead, encodeHead, fingerprint32, isDirty, storedFingerprint } from "./head.ts";
import { judgeBase } from "./judge-base.ts";
import { type CowfileHead, type OpenedCowfile, openCowfile, readCowfileHead } from "./layer.ts";
import { BLOCK_BYTES, COW_VERSION, FLAG_DIRTY } from "./layout.ts";
import { type BlockRun, JOURNAL_SUFFIX } from "./live/journal.ts";
import { type LastSession, lastSession } from "./live/last-session.ts";
import { replayLog } from "./live/replay.ts";
import { AsideCopy, blocksInDoubt, outdateJournal } from "./live/set-aside.ts";
import { clearStamp, FLAG_LIVE, readStamp } from "./live/stamp.ts";
import { extentsOfRuns, sweepUnmarked } from "./live/sweep.ts";
import { type Survey, type SurveyOptions, surveyCowfile } from "./survey.ts";
import { findUnmarkedData } from "./unmarked-data.ts";

const SECTOR_BYTES = 512;

function surveyOptions(
  file: string,
  hooks: SurveyHooks,
  state: string,
): Pick<SurveyOptions, "onScanned" | "checkpoint"> {
  return {
    onScanned:
      hooks.onProgress &&
      ((bytes) =>
        hooks.onProgress?.({
          phase: "scanning",
          done: bytes,
          total: Math.max(bytes, hooks.allocatedBytes ?? 0),
          unit: "bytes",
        })),
    checkpoint: () => {
      if (hooks.signal?.aborted) throw interrupted(file, state);
    },
  };
}

async function find(
  source: ByteSource,
  options: CheckOptions,
  survey: Pick<SurveyOptions, "content" | "dropLost" | "onCorrected">,
  state: string,
): Promise<Findings> {
  const opened = openCowfile(source);
  const { head, headBlock, geometry } = opened;
  const { problems } = judgeHead(head, source.sizeBytes, source.name);
  const base = options.base ? await judgeBase(opened, options.base, options) : [];
  const session = sessionOf(opened, options);
  const isKnown = session.kind === "killed" || session.kind === "restarted";
  const how = isKnown ? { ...survey, content: false, known: placesOfRuns(session.runs, geometry) } : survey;
  const surveyed = await surveyCowfile(source, geometry, { ...how, ...surveyOptions(source.name, options, state) });
  // The total was the space of the file, including head and bitmap: its end is known only here.
  const total = options.allocatedBytes ?? 0;
  options.onProgress?.({ phase: "scanning", done: total, total, unit: "bytes" });
  const inDoubt = new ExtentList();
  await eachInDoubt(source, opened, options, state, (extents) => {
    for (const { offset, length } of extents) inDoubt.append(offset, length);
  });
  return { head, headBlock, geometry, source, other: [...problems, ...base], survey: surveyed, session, inDoubt };
}

/** Yields the blocks of a session that may have lost some, ascending; none of any other session. */
async function eachInDoubt(
  source: ByteSource,
  opened: OpenedCowfile,
  options: CheckOptions,
  state: string,
  take: (extents: readonly Extent[]) => void,
): Promise<void> {
  const session = sessionOf(opened, options);
  if (session.kind !== "restarted") return;
  const yieldToEventLoop = makeYielder();
  for (const extents of blocksInDoubt(source, opened.geometry, session)) {
    take(extents);
    if (options.signal?.aborted) throw interrupted(source.name, state);
    await yieldToEventLoop();
  }
}

function sessionOf(opened: OpenedCowfile, options: Pick<CheckOptions, "companion" | "boot">): LastSession {
  return lastSession(opened, () => options.companion?.(JOURNAL_SUFFIX), options.boot);
}

/** Where runs of blocks are in the file, ascending. */
function placesOfRuns(runs: readonly BlockRun[], geometry: CowGeometry): Extent[] {
  return extentsOfRuns(runs, geometry).map(({ offset, length }) => ({
    offset: geometry.dataOffsetBytes + offset,
    length,
  }));
}

/**
 * Every inconsistency of a cowfile, data area included. An unusable head is a finding, too; only a file that is not a
 * cowfile is an error.
 */
export async function checkCowfile(source: ByteSource, options: CheckOptions): Promise<CheckReport> {
  const { head } = readCowfileHead(source);
  const { problems, geometry } = judgeHead(head, source.sizeBytes, source.name);
  if (!geometry) return { state: isDirty(head) ? "dirty" : "clean", problems, worst: tally(problems) };
  const findings = await find(source, options, { content: true }, "nothing was changed");
  const all = remade(() => findingsOf(findings));
  return { state: isDirty(findings.head) ? "dirty" : "clean", problems: all, worst: tally(all) };
}

/**
 * Writes one version of the head over the first bytes of its block. The rest of the block stays as it is, but for the
 * stamp of a dead server of ours, which goes with the dirty mark; both lie in the first sector.
 */
function writeHead(target: ByteTarget, { head: before, headBlock }: OpenedCowfile, head: CowHead): void {
  const block = Uint8Array.from(headBlock);
  let length = encodeHead(head, block);
  const stamp = readStamp(before, headBlock);
  if (stamp && !isDirty(head)) {
    clearStamp(stamp, block);
    length = SECTOR_BYTES;
  }
  target.write(block.subarray(0, length), 0);
  target.flush();
}

function repairedHead({ head, headBlock }: CowfileHead, mapSizeBytes: number, survey: Survey): CowHead {
  // The bit has a meaning only beside a stamp; otherwise it is one of the unknown bits, which stay.
  const ours = readStamp(head, headBlock) ? FLAG_LIVE : 0;
  return {
    ...head,
    version: COW_VERSION,
    flags: head.flags & ~FLAG_DIRTY & ~ours,
    mapSize: BigInt(mapSizeBytes),
    fingerprint: storedFingerprint(head.abi, fingerprint32(head)),
    used: BigInt(survey.usedAfter),
  };
}

/** Repairs a cowfile, or with `dryRun` reports what that would do. A clean file is examined only if asked or visibly wrong. */
export async function repairCowfile(target: ByteTarget, options: RepairOptions): Promise<RepairReport> {
  const before = openCowfile(target);
  const stateBefore = isDirty(before.head) ? "dirty" : "clean";
  if (stateBefore === "clean" && !options.force) {
    const quick = await find(target, options, { content: false }, "nothing was changed");
    const worst = tally(findingsOf(quick));
    const toDrop = options.dropLost && quick.survey.lost.count > 0;
    if (worst.fixable === 0 && !toDrop) return report(quick, options, { examined: false, changed: false });
  }
  if (options.dryRun) {
    const findings = await find(target, options, { content: true, dropLost: options.dropLost }, "nothing was changed");
    return report(findings, options, { examined: true, changed: needsWriting(findings, before, options) });
  }
  const session = sessionOf(before, options);
  // After a power cut, the log's data goes to its place. Otherwise everything is there already, and newer data, too.
  if (session.kind === "restarted" && session.log)
    replayLog(target, session.log, session.stamp.logDone, before.geometry);
  // The dead process may have left data that is not on disk yet: the bitmap must not get there before it.
  target.flush();
  let marked = stateBefore === "dirty";
  const onCorrected = (bytes: Uint8Array, offset: number): void => {
    if (!marked) writeHead(target, before, { ...before.head, flags: before.head.flags | FLAG_DIRTY });
    marked = true;
    target.write(bytes, offset);
  };
  const state = "what was found so far is marked, and the same command completes the repair";
  const findings = await find(target, options, { content: true, dropLost: options.dropLost, onCorrected }, state);
  const changed = needsWriting(findings, before, options);
  const sizeBefore = target.sizeBytes;
  const done = report(
    { ...findings, head: before.head, headBlock: before.headBlock, source: frozenSize(target, sizeBefore) },
    options,
    { examined: true, changed },
  );
  let file: string | undefined;
  let unmarkedBlocks = 0;
  if (changed) {
    if (findings.survey.neededFileBytes !== undefined) target.resize(findings.survey.neededFileBytes);
    target.flush();
    if (session.kind === "killed" || session.kind === "restarted") {
      file = await setAside(target, before, findings.inDoubt ?? new ExtentList(), options, state);
      if (file !== undefined) outdateJournal(target, session.stamp);
      sweepUnmarked(target, findings.geometry, session.kept);
      target.flush();
      if (session.kept.length > 0)
        unmarkedBlocks = (await findUnmarkedData(target, findings.geometry, undefined)).blocks;
    }
    writeHead(target, before, repairedHead(before, findings.geometry.mapSizeBytes, findings.survey));
  }
  return { ...done, setAsideFile: file, unmarkedBlocks };
}

/** Copies the blocks in doubt to a file of their own, durably. @returns its name; undefined if there are none */
async function setAside(
  target: ByteTarget,
  opened: OpenedCowfile,
  inDoubt: ExtentList,
  options: RepairOptions,
  state: string,
): Promise<string | undefined> {
  if (inDoubt.totalBytes === 0) return undefined;
  assert(options.aside, "what is in doubt needs a place to go to");
  const file = options.aside();
  const copy = new AsideCopy(target, opened, file.target);
  await eachInDoubt(target, opened, options, state, (extents) => copy.add(extents));
  copy.finish();
  return file.commit();
}

/** The file with its former size: reports are made lazily, and must not see it lengthened. */
function frozenSize(source: ByteSource, sizeBytes: number): ByteSource {
  return {
    name: source.name,
    sizeBytes,
    allocationUnitBytes: source.allocationUnitBytes,
    seesHoles: source.seesHoles,
    read: (target, offset) => source.read(target, offset),
    dataExtents: (from, to) => source.dataExtents(from, to),
  };
}

function needsWriting({ survey, geometry }: Findings, before: CowfileHead, { dropLost }: RepairOptions): boolean {
  const { head } = before;
  const after = repairedHead(before, geometry.mapSizeBytes, survey);
  const sameHead = (Object.keys(after) as (keyof CowHead)[]).every((key) => after[key] === head[key]);
  return (
    !sameHead ||
    survey.unmarked.count > 0 ||
    survey.beyondEnd.count > 0 ||
    (dropLost && survey.lost.count > 0) ||
    survey.neededFileBytes !== undefined
  );
}

function report(
  findings: Findings,
  options: RepairOptions,
  facts: { readonly examined: boolean; readonly changed: boolean },
): RepairReport {
  const { survey, geometry, source } = findings;
  const stateBefore = isDirty(findings.head) ? "dirty" : "clean";
  const cleared = new ExtentList();
  const lost = new ExtentList();
  // Lost blocks are within the image, others beyond its end: together they ascend.
  for (const { offset, length } of survey.lost) (options.dropLost ? cleared : lost).append(offset, length);
  for (const { offset, length } of survey.beyondEnd) cleared.append(offset, length);
  return {
    stateBefore,
    state: options.dryRun ? stateBefore : "clean",
    examined: facts.examined,
    changed: facts.changed,
    marked: survey.unmarked,
    cleared: facts.examined ? cleared : new ExtentList(),
    lost,
    suspects: { [Symbol.iterator]: () => gradeSuspects(survey.suspects, source, geometry) },
    setAside: findings.inDoubt ?? new ExtentList(),
    setAsideFile: undefined,
    unmarkedBlocks: 0,
    isJournalSpent: findings.session !== undefined && "usesJournal" in findings.session && findings.session.usesJournal,
    suspectBlocks: survey.suspects.totalBytes / BLOCK_BYTES,
    blocksUsed: facts.examined ? survey.usedAfter : survey.usedBefore,
    problems: { [Symbol.iterator]: () => findingsOf(findings) },
    worst: tally(findingsOf(findings)),
  };
}

/** The problems that head and bitmap alone show. */
export async function checkWithoutContent(source: ByteSource, hooks: SurveyHooks): Promise<Iterable<Problem>> {
  return findingsOf(await find(source, hooks, { content: false }, "nothing was changed"));
}
