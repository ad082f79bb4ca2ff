/**
 * Owns the judgement of one state that a crash left: it must open by itself, without a search, and read as the oracle says;
 * and the original tools must see a well-formed file in it, of which their repair makes a usable one.
 */
import { openCowfile } from "../../src/lib/formats/cowfile/layer.ts";
import { readJournal } from "../../src/lib/formats/cowfile/live/journal.ts";
import { logRuns } from "../../src/lib/formats/cowfile/live/replay.ts";
import { readStamp } from "../../src/lib/formats/cowfile/live/stamp.ts";
import { CowError, MemoryDevice, type SparseBytes } from "../../src/lib/index.ts";
import type { Files } from "./disk.ts";
import { RawCowfile } from "./foreign.ts";
import type { Fate, Oracle } from "./oracle.ts";
import { Violation } from "./violation.ts";
import { COW, JOURNAL, type Reopened, readRaw, readWindows, reopen, type World } from "./world.ts";

export interface Case {
  readonly fate: Fate;
  readonly boot: Uint8Array;
  readonly world: World;
  readonly oracle: Oracle;
  /** The original driver left it dirty: only its content tells what is in it. */
  readonly needsSearch: boolean;
  /** Blocks that others have left with data, but without a mark. */
  readonly strays: ReadonlySet<number>;
}

/** States are read into the same memory, one after the other. */
let scratch = Buffer.alloc(0);

function scratchFor({ initial }: World): Buffer {
  if (scratch.length !== initial.length) scratch = Buffer.alloc(initial.length);
  return scratch;
}

/** @returns what the image reads as, until the next state is judged @throws Violation */
export function judgeState(files: Files, { fate, boot, world, oracle, needsSearch }: Case): Buffer {
  const state = open(files, fate, boot, world, needsSearch);
  const bytes = state ? readWindows(state.image, world.windows, scratchFor(world)) : readSearched(files, world);
  const wrong = oracle.firstWrong(bytes, fate);
  if (wrong !== undefined) throw new Violation(`${fate}: sector ${wrong} ${oracle.explain(wrong, bytes)}`);
  if (fate === "power-cut" && state?.found === "recovered")
    throw new Violation("after a power cut the journal was believed");
  return bytes;
}

/** A clean cowfile has no data without a mark, but for what others have left there. @throws Violation */
export function judgeIfClean(files: Files, { fate, strays }: Pick<Case, "fate" | "strays">): void {
  const content = files.get(COW);
  if (!content) return;
  const raw = new RawCowfile(content);
  if (raw.isDirty) return;
  for (const block of raw.unmarked()) {
    if (!strays.has(block)) throw new Violation(`${fate}: the head is clean, but block ${block} has data and no mark`);
  }
}

/** @returns undefined for a file that may be refused, and is, until it was searched */
function open(files: Files, fate: Fate, boot: Uint8Array, world: World, needsSearch: boolean): Reopened | undefined {
  try {
    return reopen(files, world, boot);
  } catch (error) {
    if (needsSearch && error instanceof CowError && error.code === "dirty") return undefined;
    throw new Violation(`${fate}: does not open: ${error instanceof Error ? error.message : error}`);
  }
}

function cowfileOf(files: Files): RawCowfile {
  const content = files.get(COW);
  if (!content) throw new Violation("the cowfile is gone");
  try {
    return new RawCowfile(content.clone());
  } catch (error) {
    throw new Violation(`the original tools take it for no cowfile: ${error instanceof Error ? error.message : error}`);
  }
}

function readSearched(files: Files, world: World): Buffer {
  const raw = cowfileOf(files);
  raw.cowrepair();
  return readRaw(raw, world);
}

function loggedBlocks(files: Files): Set<number> {
  const [cow, journal] = [files.get(COW), files.get(JOURNAL)];
  const logged = new Set<number>();
  if (!cow || !journal) return logged;
  const { head, headBlock, geometry } = openCowfile(sourceOver(cow));
  const stamp = readStamp(head, headBlock);
  const log = stamp && readJournal(sourceOver(journal), stamp.nonce)?.log;
  if (!log) return logged;
  const records = log.records.filter(({ number }) => number > stamp.logDone);
  for (const { first, count } of logRuns({ ...log, records }, geometry)) {
    for (let block = first; block < first + count; block++) logged.add(block);
  }
  return logged;
}

function sourceOver(content: SparseBytes): MemoryDevice {
  return new MemoryDevice("state", content);
}

/**
 * What the original tools see: dirty, or clean and consistent; and what cowrepair -f makes of it: a file that the driver
 * opens, in which everything that was marked before is as the oracle says, and in which no note of ours is believed.
 *
 * @throws Violation
 */
export function judgeForOriginals(files: Files, { fate, boot, world, oracle, needsSearch }: Case): void {
  const before = cowfileOf(files);
  if (!before.isDirty && !before.opensInDriver)
    throw new Violation(
      `${fate}: the head is clean and counts ${before.used}, but ${before.count()} blocks are marked`,
    );
  if (needsSearch) return;
  const repaired = cowfileOf(files);
  repaired.cowrepair();
  if (!repaired.opensInDriver) throw new Violation(`${fate}, then cowrepair -f: the driver would not open it`);
  for (let block = 0; block < world.blockCount; block++) {
    if (repaired.has(block) && !repaired.isInFile(block))
      throw new Violation(`${fate}, then cowrepair -f: block ${block} is marked beyond the end of the file`);
  }
  const bytes = readRaw(repaired, world);
  // What cowrepair finds without a mark may be what was never replied to.
  const blocks = world.windows.flatMap(({ fromSector, count }) =>
    Array.from({ length: count }, (_, i) => Math.floor((fromSector + i) / 2)),
  );
  // What small flushes covered may be in their log only: in its place the originals see what was there before.
  const logged = fate === "power-cut" ? loggedBlocks(files) : new Set<number>();
  const wrong = oracle.firstWrong(
    bytes,
    fate,
    (index) => !before.has(blocks[index] ?? 0) || logged.has(blocks[index] ?? 0),
  );
  if (wrong !== undefined)
    throw new Violation(`${fate}, then cowrepair -f: sector ${wrong} ${oracle.explain(wrong, bytes)}`);
  const after = new Map(files).set(COW, repaired.content);
  const reopened = open(after, fate, boot, world, false);
  if (reopened?.found !== "clean") throw new Violation(`${fate}, then cowrepair -f: is not taken for clean`);
  if (!readWindows(reopened.image, world.windows).equals(bytes))
    throw new Violation(`${fate}, then cowrepair -f: reads as something else than what cowrepair left`);
}
