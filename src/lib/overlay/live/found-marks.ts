/**
 * Owns the judgement of a cowfile that is to be written: in which state it was left, which marks it has besides its
 * bitmap, and what stands in the way of writing to it.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import type { Storage } from "../../device/storage.ts";
import { CowError, shellWord } from "../../errors.ts";
import { type CowHead, isDirty } from "../../formats/cowfile/head.ts";
import { type OpenedCowfile, reachableBlocks } from "../../formats/cowfile/layer.ts";
import { BITMAP_OFFSET_BYTES, BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import type { FoundLog } from "../../formats/cowfile/live/flush-log.ts";
import { type BlockRun, journalLog, journalPath, journalRuns } from "../../formats/cowfile/live/journal.ts";
import { logRuns } from "../../formats/cowfile/live/replay.ts";
import { isOfThisBoot, type LiveStamp, readStamp } from "../../formats/cowfile/live/stamp.ts";
import type { BlockMap } from "./block-map.ts";
import { MAP_PAGE_BYTES, PageState } from "./shared-state.ts";

/** How a cowfile was found. `recovered`: a session of ours had not ended in order, and nothing of it was lost. */
export type FoundState = "clean" | "recovered" | "power-cut";

export interface FoundMarks {
  readonly found: FoundState;
  readonly stamp: LiveStamp | undefined;
  /** Marks that are not in the bitmap on disk, or may not be. */
  readonly runs: readonly BlockRun[];
  /** What the flush log holds; undefined where it was not used. */
  readonly log: FoundLog | undefined;
}

/** What is known of a dirty cowfile's marks besides its bitmap. */
export function findMarks(
  storage: Storage,
  path: string,
  { head, headBlock, geometry }: OpenedCowfile,
  boot: Uint8Array,
): FoundMarks {
  if (!isDirty(head)) return { found: "clean", stamp: undefined, runs: [], log: undefined };
  const stamp = readStamp(head, headBlock);
  const name = shellWord(path);
  const hints = [`run \`cowtool repair ${name}\` first, or serve it with --repair`];
  if (!stamp) {
    const message = "is dirty: it was not closed, and blocks may be missing from its bitmap";
    throw new CowError("dirty", message, { file: path, hints });
  }
  // Without a boot id nobody knows whether what it had written is still there: then only a search tells.
  const isKnown = [stamp.boot, boot].every((id) => id.some((byte) => byte !== 0));
  const isLaterBoot = isKnown && !isOfThisBoot(stamp, boot);
  if (isLaterBoot && !stamp.usesLog) return { found: "power-cut", stamp, runs: [], log: undefined };
  const journal = isKnown ? ownJournal(storage, path, stamp) : undefined;
  if (journal) {
    const logged = logRuns(journal.log, geometry);
    const log = stamp.usesLog ? journal.log : undefined;
    if (isLaterBoot) return { found: "power-cut", stamp, runs: logged, log };
    return { found: "recovered", stamp, runs: [...journal.runs, ...logged], log };
  }
  throw new CowError(
    "dirty",
    `is dirty: cowtool was serving it when it was stopped, but its journal ${journalPath(path)} is missing or another's`,
    { file: path, hints: ["if the file was moved, move the journal to it", ...hints] },
  );
}

/** What is in the journal beside a cowfile, or undefined if there is none with that nonce. */
function ownJournal(
  storage: Storage,
  path: string,
  { nonce }: LiveStamp,
): { readonly runs: readonly BlockRun[]; readonly log: FoundLog } | undefined {
  const file = journalPath(storage.realPath(path));
  if (!storage.facts(file, { own: true })) return undefined;
  const journal = storage.open(file, { lock: "none", own: true });
  try {
    const runs = journalRuns(journal, nonce);
    const log = journalLog(journal, nonce);
    return runs && log && { runs, log };
  } finally {
    journal.close();
  }
}

/** Set bits of the whole bitmap, those beyond the image included: what the driver compares with its head. */
export function countMarks(map: BlockMap, pages: Uint8Array, mapSizeBytes: number): number {
  let count = 0;
  for (const [page, state] of pages.entries()) {
    if (state === PageState.EMPTY) continue;
    const from = Math.max(0, page * MAP_PAGE_BYTES - BITMAP_OFFSET_BYTES);
    count += map.countIn(from, Math.min(mapSizeBytes, (page + 1) * MAP_PAGE_BYTES - BITMAP_OFFSET_BYTES));
  }
  return count;
}

/** Marks without data would begin to read as zeros once the file grows past them. */
export function refuseLost(device: BlockDevice, { geometry }: OpenedCowfile, map: BlockMap): void {
  const reachable = reachableBlocks(device, geometry);
  if (reachable >= geometry.rdoBlocks) return;
  const firstMarked = map.has(reachable) ? reachable : map.runEnd(reachable, geometry.rdoBlocks, false);
  if (firstMarked >= geometry.rdoBlocks) return;
  throw new CowError("damaged", `block ${firstMarked} is marked, but its data lies beyond the end of the file`, {
    file: device.name,
    details: { offset: geometry.dataOffsetBytes + firstMarked * BLOCK_BYTES },
    hints: [
      `\`cowtool check ${shellWord(device.name)}\` lists what is missing, \`cowtool repair --drop-lost\` gives it up`,
    ],
  });
}

export function refuseMiscount(
  head: CowHead,
  map: BlockMap,
  pages: Uint8Array,
  mapSizeBytes: number,
  file: string,
): void {
  const used = countMarks(map, pages, mapSizeBytes);
  if (head.used === BigInt(used)) return;
  throw new CowError("damaged", `the head counts ${head.used} blocks, but ${used} are marked`, {
    file,
    hints: [`run \`cowtool repair ${shellWord(file)}\` first, or serve it with --repair`],
  });
}
