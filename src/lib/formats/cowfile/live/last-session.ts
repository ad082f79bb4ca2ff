/**
 * Owns judging how the last session that had this cowfile open ended, and which of its records are valid, from head,
 * stamp and journal alone. `serve`, `check` and `repair` all use it. A journal is valid only for its cowfile: same
 * nonce, and generations that fit (stamp.ts, journal.ts).
 */
import type { ByteSource } from "../../../bytes/byte-source.ts";
import { isDirty } from "../head.ts";
import type { OpenedCowfile } from "../layer.ts";
import type { FoundLog } from "./flush-log.ts";
import { type BlockRun, type FoundJournal, readJournal } from "./journal.ts";
import { logRuns } from "./replay.ts";
import { isOfThisBoot, type LiveStamp, readStamp } from "./stamp.ts";

/** By how many generations a cowfile may be ahead of its journal: one for each thread that writes. */
export const MAX_AHEAD = 64;

/** Why a journal of ours is not valid. */
export type JournalFault =
  /** There is none. */
  | "missing"
  /** The file is another session's journal, or not a journal. */
  | "foreign"
  /** The journal has seen changes that the cowfile has not: the cowfile is an older copy. */
  | "newer"
  /** The other way round. */
  | "older"
  /** Without a boot id a kill cannot be told from a power cut. */
  | "no-boot-id";

/** A journal with such a fault, for people. */
export const FAULT_WORDS: Record<JournalFault, string> = {
  missing: "is missing",
  foreign: "belongs to another session",
  newer: "has changes that the cowfile lacks: the cowfile is an older copy",
  older: "is an older copy",
  "no-boot-id": "cannot be judged here (no boot id)",
};

/** The records of a session whose allocated blocks are known without a search. */
interface KnownMarks {
  readonly stamp: LiveStamp;
  /** The journal was used; once the cowfile is clean it is not needed any more. */
  readonly usesJournal: boolean;
  /** Allocated blocks that are not in the bitmap on disk, or may not be. */
  readonly runs: readonly BlockRun[];
  /** The flush log; undefined if it was not used. */
  readonly log: FoundLog | undefined;
  /** Unallocated blocks that held data before the session: they must not be removed. */
  readonly kept: readonly BlockRun[];
}

export type LastSession =
  /** The head says clean. */
  | { readonly kind: "ended" }
  /** Left dirty by another program, or changed by one since. */
  | { readonly kind: "other-program" }
  /** Ours, but only its content shows which blocks are allocated. */
  | { readonly kind: "unknown"; readonly stamp: LiveStamp; readonly fault: JournalFault }
  /** Killed, and the machine has been running since: nothing is lost. */
  | ({ readonly kind: "killed" } & KnownMarks)
  /**
   * The machine was restarted since, or the files were moved to another one: only flushed writes are valid. `named`:
   * blocks that the journal names as written since, if cowfile and journal are of one moment.
   */
  | ({ readonly kind: "restarted"; readonly named: readonly BlockRun[] } & KnownMarks);

/** After a restart without a journal that says more. */
const NOTHING_MORE = { usesJournal: false, runs: [], log: undefined, kept: [], named: [] } as const;

/**
 * Judges a cowfile by itself and its journal.
 *
 * @param journal opens the file with the name of its journal; undefined if there is none
 * @param boot the machine's boot id; undefined or zeros where there is none
 * @throws CowError `io`, and what `journal` throws
 */
export function lastSession(
  { head, headBlock, geometry }: OpenedCowfile,
  journal: () => ByteSource | undefined,
  boot: Uint8Array | undefined,
): LastSession {
  if (!isDirty(head)) return { kind: "ended" };
  const stamp = readStamp(head, headBlock);
  if (!stamp) return { kind: "other-program" };
  if (!boot || ![stamp.boot, boot].every((id) => id.some((byte) => byte !== 0)))
    return { kind: "unknown", stamp, fault: "no-boot-id" };
  const isRestarted = !isOfThisBoot(stamp, boot);
  const source = journal();
  const found = source && readJournal(source, stamp.nonce);
  const fault = found ? faultOf(found, stamp, isRestarted) : source ? "foreign" : "missing";
  if (!found || fault) {
    // Without a flush log the bitmap has everything that a flush covered.
    if (isRestarted && !stamp.usesLog) return { kind: "restarted", stamp, ...NOTHING_MORE };
    return { kind: "unknown", stamp, fault: fault ?? "foreign" };
  }
  const logged = logRuns(found.log, geometry);
  const log = stamp.usesLog ? found.log : undefined;
  if (!isRestarted) {
    // A damaged list: then nothing is removed.
    const kept = found.kept ?? [{ first: 0, count: geometry.rdoBlocks }];
    return { kind: "killed", stamp, usesJournal: true, runs: [...found.runs, ...logged], log, kept };
  }
  const named = found.generation === stamp.generation ? found.runs : [];
  const kept = found.kept ?? [];
  return { kind: "restarted", stamp, usesJournal: true, runs: log ? logged : [], log, kept, named };
}

function faultOf({ generation, log }: FoundJournal, stamp: LiveStamp, isRestarted: boolean): JournalFault | undefined {
  // A checkpoint writes into the stamp up to where the log is done before the log starts again.
  const first = log.records[0];
  if (stamp.usesLog && first && first.number > stamp.logDone + 1) return "newer";
  // It is unknown which generation of either file reached the disk before the machine stopped.
  if (isRestarted || generation === undefined) return undefined;
  if (generation > stamp.generation) return "newer";
  return generation + MAX_AHEAD < stamp.generation ? "older" : undefined;
}
