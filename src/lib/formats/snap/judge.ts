/**
 * Owns the question whether files can be logs of snap.c, read as the user said. Nothing in them says so, hence
 * everything that the driver would never have written is a problem.
 */

import { setRuns } from "../../bytes/bitmap.ts";
import type { ByteSource } from "../../bytes/byte-source.ts";
import { atByte } from "../../errors.ts";
import type { Problem } from "../format.ts";
import { findingsFrom, type ProblemSpec } from "../problems.ts";
import { geometryOf, MAX_BLOCKS, type SnapGeometry } from "./geometry.ts";
import { SnapLog } from "./log.ts";

const SNAP_PROBLEMS = {
  "log-short": {
    severity: "error",
    about: "The log is smaller than the driver takes: half of it has to be left for data.",
  },
  "log-long": { severity: "error", about: "The log has more blocks than the driver could number." },
  "bit-beyond-end": {
    severity: "error",
    about: "The bitmap has a bit for a block that the source does not have: another block size, or no log.",
  },
  overfull: { severity: "error", about: "The bitmap has more bits than the log has room for." },
  "map-entry": {
    severity: "error",
    about: "The map gives a block a place outside of the data: another word size or byte order, or no log.",
  },
  "map-twice": { severity: "error", about: "The map gives two blocks the same place." },
  "block-twice": { severity: "error", about: "Two logs hold the same block, which the driver never does." },
  unordered: {
    severity: "warning",
    about: "A log has blocks although the one before it is not full: they were not filled in this order.",
  },
  gaps: {
    severity: "warning",
    about:
      "The log has data after what its bits explain: bits were lost, because they were written late and in no order. Those blocks read as the source is now.",
  },
  "possibly-ended": {
    severity: "warning",
    about:
      "Every log is full to the last block. If the source was written after that, the driver ended the snapshot without a mark: what was written then is not preserved.",
  },
} as const satisfies Readonly<Record<string, ProblemSpec>>;

const snapProblem = findingsFrom(SNAP_PROBLEMS);

export interface SnapFinding {
  readonly log: string;
  readonly problem: Problem;
}

/** More of one kind are not informative. */
const MOST_OF_A_KIND = 20;
const PAGE_BITS = 32 * 1024;
const STEP_BLOCKS = 4096;

export interface JudgedLog {
  readonly log: SnapLog;
  readonly used: number;
}

export interface JudgedLogs {
  readonly logs: readonly JudgedLog[];
  readonly findings: readonly SnapFinding[];
}

/** The problems of the logs, in the order in which they were filled. An error means that they are not such logs. */
export function judgeLogs(sources: readonly ByteSource[], geometry: SnapGeometry): JudgedLogs {
  const steps = judgeInSteps(sources, geometry);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** The same; yields now and then, so that a caller can pause and stop. */
export function* judgeInSteps(sources: readonly ByteSource[], geometry: SnapGeometry): Generator<void, JudgedLogs> {
  const findings: SnapFinding[] = [];
  const judged: JudgedLog[] = [];
  for (const source of sources) {
    const log = new SnapLog(source, geometry);
    const collect = new Findings(log, findings);
    judged.push({ log, used: yield* judgeLog(log, collect) });
  }
  yield* judgeTogether(judged, findings);
  return { logs: judged, findings };
}

class Findings {
  readonly #log: SnapLog;
  readonly #all: SnapFinding[];
  readonly #counts = new Map<string, number>();

  constructor(log: SnapLog, all: SnapFinding[]) {
    this.#log = log;
    this.#all = all;
  }

  /** Are no more of this kind kept? */
  isFull(id: keyof typeof SNAP_PROBLEMS): boolean {
    return (this.#counts.get(id) ?? 0) >= MOST_OF_A_KIND;
  }

  /** @param offset where in the file; undefined if it concerns the whole file */
  add(id: keyof typeof SNAP_PROBLEMS, offset: number | undefined, length: number, message: string): void {
    const count = this.#counts.get(id) ?? 0;
    this.#counts.set(id, count + 1);
    if (count >= MOST_OF_A_KIND) return;
    const where = offset === undefined ? message : `${message}, at ${atByte(offset)}`;
    this.#all.push({ log: this.#log.source.name, problem: snapProblem(id, { offset: offset ?? 0, length }, where) });
  }
}

/** @returns how many blocks it preserves */
function* judgeLog(log: SnapLog, findings: Findings): Generator<void, number> {
  const { geometry, blocks } = log;
  const { leastLogBlocks, dataBase, wordBytes, sourceBlocks } = geometry;
  if (blocks < leastLogBlocks) {
    const message = `it has ${blocks} blocks, but a log for ${sourceBlocks} blocks has at least ${leastLogBlocks}`;
    findings.add("log-short", undefined, 0, message);
    return 0;
  }
  if (blocks > MAX_BLOCKS) {
    findings.add("log-long", undefined, 0, `it has ${blocks} blocks, more than ${MAX_BLOCKS}`);
    return 0;
  }
  judgeTail(log, findings);
  const taken = new Places();
  let used = 0;
  let highest = 0;
  for (const block of log.preserved()) {
    if (used++ % STEP_BLOCKS === 0) yield;
    if (used > log.dataBlocks) break;
    // Beyond that it is not a log: its bits are counted, no more.
    if (findings.isFull("map-entry")) {
      used = log.count();
      break;
    }
    const entry = log.entry(block);
    const at = log.entryOffset(block);
    if (!log.isDataBlock(entry)) {
      const message = `the map gives block ${block} place ${entry}, but data is from ${dataBase} to ${blocks - 1}`;
      findings.add("map-entry", at, wordBytes, message);
      continue;
    }
    if (!taken.take(Number(entry)))
      findings.add("map-twice", at, wordBytes, `the map gives block ${block} place ${entry}, which another block has`);
    highest = Math.max(highest, Number(entry));
  }
  if (used > log.dataBlocks)
    findings.add("overfull", undefined, 0, `it has more bits than room for the data of ${log.dataBlocks} blocks`);
  else if (highest >= dataBase + used)
    findings.add("gaps", highest * geometry.blockBytes, 0, `it has ${used} bits, but data up to block ${highest}`);
  return Math.min(used, log.dataBlocks);
}

/** The last bits of the bitmap, which belong to no block. */
function judgeTail(log: SnapLog, findings: Findings): void {
  const { sourceBlocks, bitmapBlocks, blockBytes } = log.geometry;
  const from = Math.floor(sourceBlocks / 8);
  const bytes = new Uint8Array(bitmapBlocks * blockBytes - from);
  bytes.fill(0, log.source.read(bytes, from));
  for (const [bit] of setRuns(bytes, sourceBlocks % 8, bytes.length * 8)) {
    const block = from * 8 + bit;
    findings.add("bit-beyond-end", from + (bit >> 3), 1, `it has block ${block} of a source of ${sourceBlocks} blocks`);
    return;
  }
}

function* judgeTogether(judged: readonly JudgedLog[], findings: SnapFinding[]): Generator<void, void> {
  if (findings.some(({ problem }) => problem.severity === "error")) return;
  for (const [i, { log, used }] of judged.entries()) {
    const collect = new Findings(log, findings);
    const before = judged.slice(0, i);
    const previous = before.at(-1);
    if (previous && used > 0 && previous.used < previous.log.dataBlocks)
      collect.add(
        "unordered",
        undefined,
        0,
        `it has blocks, although ${previous.log.source.name} before it is not full`,
      );
    const twice = used === 0 || before.length === 0 ? undefined : yield* firstShared(log, before);
    if (twice === undefined) continue;
    collect.add(
      "block-twice",
      Math.floor(twice / 8),
      1,
      `it holds block ${twice}, which a log before it holds as well`,
    );
  }
  const [last] = judged.slice(-1);
  if (last && judged.every(({ log, used }) => used === log.dataBlocks))
    new Findings(last.log, findings).add(
      "possibly-ended",
      undefined,
      0,
      "every log is full: the snapshot may have ended without a mark, and then what was written later shows through",
    );
}

function* firstShared(log: SnapLog, before: readonly JudgedLog[]): Generator<void, number | undefined> {
  let seen = 0;
  for (const block of log.preserved()) {
    if (before.some((other) => other.log.has(block))) return block;
    if (++seen % STEP_BLOCKS === 0) yield;
  }
  return undefined;
}

/** Used places, as bits in pages that are made when one is touched. */
class Places {
  readonly #pages = new Map<number, Uint8Array>();

  /** @returns false if it was taken already */
  take(place: number): boolean {
    const index = Math.floor(place / PAGE_BITS);
    const bit = place % PAGE_BITS;
    let page = this.#pages.get(index);
    if (!page) {
      page = new Uint8Array(PAGE_BITS / 8);
      this.#pages.set(index, page);
    }
    const mask = 1 << (bit & 7);
    const old = page[bit >> 3] ?? 0;
    page[bit >> 3] = old | mask;
    return (old & mask) === 0;
  }
}

/** The word sizes and byte orders without any problem in the logs, as settings. */
export function plausibleTerms(sources: readonly ByteSource[], { blockBytes, sourceBlocks }: SnapGeometry): string[] {
  const found: string[] = [];
  for (const wordBytes of [4, 8] as const) {
    for (const littleEndian of [true, false]) {
      const other = geometryOf({ blockBytes, wordBytes, littleEndian }, sourceBlocks);
      const { findings } = judgeLogs(sources, other);
      if (findings.every(({ problem }) => problem.severity !== "error"))
        found.push(`word=${wordBytes};endian=${littleEndian ? "little" : "big"}`);
    }
  }
  return found;
}
