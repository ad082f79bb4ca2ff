/**
 * Owns judging a store's list: which exceptions are used, which are wrong and why, and the map of those that are used.
 * Changes nothing.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { atByte } from "../../errors.ts";
import type { Problem } from "../format.ts";
import { ExceptionMap } from "./exception-map.ts";
import { TUPLE_BYTES, tupleOffset } from "./layout.ts";
import { type StoreProblemId, storeProblem } from "./problems.ts";
import { isDataChunk, looksFull, readTuple, type StoreScan } from "./scan.ts";

/** The faults of one exception. The index is its verdict; 0 is none. */
const FAULTS = ["none", "old-beyond", "new-metadata", "new-beyond", "old-duplicate", "new-duplicate"] as const;
export type Fault = Exclude<(typeof FAULTS)[number], "none">;

/** Findings of one kind that are listed; the rest is counted. */
const LISTED = 1000;

export interface Verdicts {
  readonly scan: StoreScan;
  /** Every exception without a fault, and the first of duplicates. */
  readonly map: ExceptionMap;
  /** How many exceptions have that fault. */
  readonly counts: Readonly<Record<Fault, number>>;
  /** The fault of the exception at that place of the list. */
  faultAt(index: number): Fault | undefined;
}

/** Judges each exception. @param originChunks chunks of the backing, the last one partial; undefined if unknown */
export function judgeExceptions(scan: StoreScan, originChunks: number | undefined): Verdicts {
  const { olds, news, geometry } = scan;
  const addressable = Math.floor(Number.MAX_SAFE_INTEGER / geometry.chunkBytes);
  const oldLimit = Math.min(addressable, originChunks ?? addressable);
  const faults = new Uint8Array(olds.length);
  const counts = { "old-beyond": 0, "new-metadata": 0, "new-beyond": 0, "old-duplicate": 0, "new-duplicate": 0 };
  const note = (index: number, fault: Fault): void => {
    faults[index] = FAULTS.indexOf(fault);
    counts[fault]++;
  };
  judgeEach(scan, oldLimit, note);
  let order = sound(faults);
  if (!olds.ascends(order)) {
    order = olds.sorted(order);
    for (let i = 1; i < order.length; i++) {
      if (olds.at(order[i] ?? 0) === olds.at(order[i - 1] ?? 0)) note(order[i] ?? 0, "old-duplicate");
    }
    if (counts["old-duplicate"] > 0) order = order.filter((index) => faults[index] === 0);
  }
  judgeSharing(scan, sound(faults), note);
  return {
    scan,
    // Exceptions that share a chunk stay: a kernel shows that, too, if it is forced to read such a store.
    map: new ExceptionMap(olds.pick(order), news.pick(order)),
    counts,
    faultAt: (index) => {
      const fault = FAULTS[faults[index] ?? 0];
      return fault === "none" ? undefined : fault;
    },
  };
}

/** Faults of an exception by itself. */
function judgeEach(scan: StoreScan, oldLimit: number, note: (index: number, fault: Fault) => void): void {
  const { olds, news } = scan;
  for (let i = 0; i < olds.length; i++) {
    const next = news.at(i);
    // The data of chunks beyond the origin is never read, wherever it is.
    if (olds.at(i) >= oldLimit) note(i, "old-beyond");
    else if (next >= scan.chunks) note(i, "new-beyond");
    else if (!isDataChunk(scan, next)) note(i, "new-metadata");
  }
}

/** Are two of `indexes` in one chunk? Stores of kernels since 2013 are in order, which is quickly checked. */
function judgeSharing(
  { news }: StoreScan,
  indexes: Uint32Array<ArrayBuffer>,
  note: (index: number, fault: Fault) => void,
): void {
  if (news.ascends(indexes)) return;
  const byNew = news.sorted(indexes);
  for (let i = 1; i < byNew.length; i++) {
    if (news.at(byNew[i] ?? 0) === news.at(byNew[i - 1] ?? 0)) note(byNew[i] ?? 0, "new-duplicate");
  }
}

/** The places of the list without a fault. */
function sound(faults: Uint8Array): Uint32Array<ArrayBuffer> {
  let count = 0;
  for (const fault of faults) if (fault === 0) count++;
  const indexes = new Uint32Array(count);
  let at = 0;
  for (let i = 0; i < faults.length; i++) if (faults[i] === 0) indexes[at++] = i;
  return indexes;
}

/** All problems of the list; exceptions in its order, of each kind the first thousand. */
export function* listProblems(source: ByteSource, verdicts: Verdicts): Generator<Problem> {
  const { scan, counts } = verdicts;
  const { geometry } = scan;
  const listed: Record<Fault, number> = {
    "old-beyond": 0,
    "new-metadata": 0,
    "new-beyond": 0,
    "old-duplicate": 0,
    "new-duplicate": 0,
  };
  if (Object.values(counts).some((count) => count > 0)) {
    for (let i = 0; i < scan.olds.length; i++) {
      const fault = verdicts.faultAt(i);
      if (!fault || listed[fault] === LISTED) continue;
      listed[fault]++;
      const { old_chunk, new_chunk } = readTuple(source, geometry, i);
      const offset = tupleOffset(geometry, i);
      const where = { offset, length: TUPLE_BYTES };
      yield storeProblem(
        fault,
        where,
        `exception ${i} at ${atByte(offset)}: ${faultWords(fault, old_chunk, new_chunk, scan)}`,
      );
    }
  }
  for (const [fault, count] of Object.entries(counts) as [Fault, number][]) {
    if (count > listed[fault]) {
      yield storeProblem(
        fault,
        { offset: 0, length: 0 },
        `${count - listed[fault]} more exceptions like that, too many to list`,
      );
    }
  }
  yield* listEndProblems(scan);
}

function faultWords(fault: Fault, old: bigint, next: bigint, scan: StoreScan): string {
  switch (fault) {
    case "old-beyond":
      return `for chunk ${old}, which the origin does not have`;
    case "new-metadata":
      return `for chunk ${old} is in chunk ${next}, which holds metadata`;
    case "new-beyond":
      return `for chunk ${old} is in chunk ${next}, but the store has only ${scan.chunks} whole chunks`;
    case "old-duplicate":
      return `for chunk ${old}, which has an exception already: the first one counts`;
    case "new-duplicate":
      return `for chunk ${old} is in chunk ${next}, which another exception uses`;
  }
}

function* listEndProblems(scan: StoreScan): Generator<Problem> {
  const { missingArea, stale, isTooLong, geometry } = scan;
  const problem = (id: StoreProblemId, offset: number, length: number, message: string): Problem =>
    storeProblem(id, { offset, length }, message);
  if (missingArea !== undefined) {
    const why =
      scan.areas === 0 ? "the first metadata area" : `metadata area ${scan.areas}, as the one before it is full`;
    yield problem(
      "area-missing",
      missingArea,
      geometry.chunkBytes,
      `the file ends before ${atByte(missingArea + geometry.chunkBytes)}, where ${why}, would have to end`,
    );
  }
  if (isTooLong) {
    yield problem(
      "too-many",
      geometry.chunkBytes,
      0,
      `lists more exceptions than its ${scan.chunks} chunks could hold`,
    );
  }
  if (stale) {
    yield problem(
      "stale-tuples",
      stale.offset,
      stale.length,
      `the list of exceptions ends at ${atByte(stale.offset)}, but the same area has something after it`,
    );
  }
  if (missingArea === undefined && looksFull(scan)) {
    yield problem("looks-full", 0, 0, "is full: there is no room for a further exception");
  }
}
