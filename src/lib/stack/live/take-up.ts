/**
 * Owns what is found out and put in order before a cowfile is written: the session before, its marks, what of it is in doubt,
 * and the head that the first change writes.
 */
import { randomBytes } from "node:crypto";
import type { OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import type { Storage } from "../../device/storage.ts";
import { CowError, shellWord } from "../../errors.ts";
import { encodeHead } from "../../formats/cowfile/head.ts";
import type { OpenedCowfile } from "../../formats/cowfile/layer.ts";
import { BITMAP_OFFSET_BYTES, BLOCK_BYTES, FLAG_DIRTY } from "../../formats/cowfile/layout.ts";
import type { BlockRun } from "../../formats/cowfile/live/journal.ts";
import { type LastSession, lastSession } from "../../formats/cowfile/live/last-session.ts";
import { AsideCopy, blocksInDoubt, outdateJournal, unflushedWords } from "../../formats/cowfile/live/set-aside.ts";
import { clearStamps, FLAG_LIVE, freeStampOffset, NONCE_BYTES, writeStamp } from "../../formats/cowfile/live/stamp.ts";
import { sweepUnmarked } from "../../formats/cowfile/live/sweep.ts";
import type { MarksAt } from "../../formats/cowfile/unmarked-data.ts";
import { asideFile } from "./aside-file.ts";
import { BlockMap } from "./block-map.ts";
import type { JournalFile } from "./journal-file.ts";
import { loadBitmap } from "./resident-layer.ts";
import { MAP_PAGE_BYTES, newSharedState, PageState } from "./shared-state.ts";

const SECTOR_BYTES = 512;

export type KnownSession = Extract<LastSession, { kind: "killed" | "restarted" }>;

/** The memory that threads share, with every mark that is known. */
export function loadMarks(device: BlockDevice, { geometry }: OpenedCowfile, runs: readonly BlockRun[]) {
  const state = newSharedState(geometry.mapSizeBytes);
  const map = new BlockMap(state.bitmap, geometry.rdoBlocks);
  const { pages } = state;
  loadBitmap(device, geometry.rdoBlocks, map.bytes, (from, to) => setPages(pages, from, to, PageState.STORED));
  for (const { first, count } of runs) {
    const end = Math.min(first + count, geometry.rdoBlocks);
    if (first >= end) continue;
    map.assign(first, end, true);
    setPages(pages, Math.floor(first / 8), Math.floor((end - 1) / 8) + 1, PageState.CHANGED);
  }
  return { state, map, pages };
}

/** The head as it is to be at the first change. @param old the session that goes on; undefined for a new one */
export function nextHead({ head, headBlock }: OpenedCowfile, old: KnownSession | undefined, boot: Uint8Array) {
  // What is in the flush log counts until a checkpoint: it stays under the same nonce.
  const nonce = old ? old.stamp.nonce : new Uint8Array(randomBytes(NONCE_BYTES));
  const generation = old?.stamp.generation ?? 0;
  const bare = Uint8Array.from(headBlock);
  clearStamps(bare);
  const offset = freeStampOffset(head, bare);
  const logged = { usesLog: old?.log !== undefined, logDone: old?.log ? old.stamp.logDone : 0 };
  const stamp = offset === undefined ? undefined : { nonce, boot, offset, generation, ...logged };
  const dirty = bare.slice(0, SECTOR_BYTES);
  const flags = head.flags | FLAG_DIRTY;
  encodeHead({ ...head, flags: stamp ? flags | FLAG_LIVE : flags }, dirty);
  if (stamp) writeStamp(stamp, dirty);
  return { nonce, generation, stamp, dirty };
}

/** @throws CowError `locked` where a server still writes a journal of that name */
export function foundSession(opened: OpenedCowfile, journalFile: JournalFile, boot: Uint8Array): LastSession {
  try {
    const journal = journalFile.find();
    return lastSession(opened, () => journal, boot);
  } catch (error) {
    if (!(error instanceof CowError) || error.code !== "locked") throw error;
    const hints = ["the cowfile of that server was renamed: stop that server, or serve this one under another name"];
    throw new CowError("locked", error.message, {
      details: error.details,
      file: journalFile.path,
      hints,
      cause: error,
    });
  }
}

/**
 * After a restart: keeps what no flush covered, in a file of its own, and takes it out of the cowfile.
 *
 * @returns the session as its stamp is now
 */
export function setAside(
  storage: Storage,
  path: string,
  device: BlockDevice,
  opened: OpenedCowfile,
  session: Extract<LastSession, { kind: "restarted" }>,
  marksAt: MarksAt,
  onNotice: OperationContext["onNotice"],
): KnownSession {
  const { geometry } = opened;
  let bytes = 0;
  for (const extents of blocksInDoubt(device, geometry, session, marksAt))
    for (const { length } of extents) bytes += length;
  if (bytes === 0) return session;
  const file = asideFile(storage, path);
  try {
    const copy = new AsideCopy(device, opened, file.target);
    for (const extents of blocksInDoubt(device, geometry, session, marksAt)) copy.add(extents);
    copy.finish();
    const name = file.commit();
    onNotice?.({ severity: "warning", file: path, message: unflushedWords(bytes / BLOCK_BYTES, name) });
    const stamp = outdateJournal(device, session.stamp);
    sweepUnmarked(device, geometry, session.kept, marksAt);
    return { ...session, stamp };
  } finally {
    file.abandon();
  }
}

/** Says that a clean cowfile holds data without a mark. */
export function tellOfUnmarked(kept: readonly BlockRun[], path: string, onNotice: OperationContext["onNotice"]): void {
  const blocks = kept.reduce((sum, { count }) => sum + count, 0);
  if (blocks === 0) return;
  const message = `holds data in ${blocks} unallocated ${blocks === 1 ? "block" : "blocks"}, from block ${kept[0]?.first} on: not shown to clients, and left unchanged; \`cowtool repair -f ${shellWord(path)}\` allocates them`;
  onNotice?.({ severity: "warning", file: path, message });
}

function setPages(pages: Uint8Array, fromByte: number, toByte: number, state: number): void {
  const first = Math.floor((BITMAP_OFFSET_BYTES + fromByte) / MAP_PAGE_BYTES);
  const last = Math.floor((BITMAP_OFFSET_BYTES + toByte - 1) / MAP_PAGE_BYTES);
  pages.fill(state, first, last + 1);
}
