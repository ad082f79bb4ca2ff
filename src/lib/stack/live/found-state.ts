/**
 * Owns refusing to write a cowfile: if only a search would find its allocated blocks, if data is missing, or if its
 * count is wrong.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import { CowError, shellWord } from "../../errors.ts";
import type { CowHead } from "../../formats/cowfile/head.ts";
import { type OpenedCowfile, reachableBlocks } from "../../formats/cowfile/layer.ts";
import { BITMAP_OFFSET_BYTES, BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { FAULT_WORDS, type LastSession } from "../../formats/cowfile/live/last-session.ts";
import type { BlockMap } from "./block-map.ts";
import { MAP_PAGE_BYTES, PageState } from "./shared-state.ts";

/**
 * How a cowfile was found. `power-cut`: the machine has been restarted since. `recovered`: a session of ours did not
 * end in order, and nothing was lost.
 */
export type FoundState = "clean" | "recovered" | "power-cut";

/** Refuses a cowfile whose allocated blocks only a search would find. @throws CowError `dirty` */
export function refuseUnknown(session: LastSession, path: string, journal: string): void {
  const name = shellWord(path);
  const hints = [`run \`cowtool repair ${name}\` first, or serve it with --repair`];
  if (session.kind === "other-program") {
    const message = "is dirty: it was not closed, and blocks may be missing from its bitmap";
    throw new CowError("dirty", message, { file: path, hints });
  }
  if (session.kind !== "unknown") return;
  const { fault } = session;
  throw new CowError(
    "dirty",
    `is dirty: cowtool was serving it when it was stopped, and its journal ${journal} ${FAULT_WORDS[fault]}`,
    {
      file: path,
      hints: fault === "no-boot-id" ? hints : ["put the cowfile and the journal that belong together back", ...hints],
    },
  );
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

/**
 * Allocated blocks without data would read as zeros once the file grows past them.
 * @param used as countMarks() found
 */
export function refuseLost(device: BlockDevice, { geometry }: OpenedCowfile, map: BlockMap, used: number): void {
  if (used === 0) return;
  const reachable = reachableBlocks(device, geometry);
  if (reachable >= geometry.rdoBlocks) return;
  const firstMarked = map.has(reachable) ? reachable : map.runEnd(reachable, geometry.rdoBlocks, false);
  if (firstMarked >= geometry.rdoBlocks) return;
  throw new CowError("damaged", `block ${firstMarked} is allocated, but its data is beyond the end of the file`, {
    file: device.name,
    details: { offset: geometry.dataOffsetBytes + firstMarked * BLOCK_BYTES },
    hints: [
      `\`cowtool check ${shellWord(device.name)}\` lists what is missing, \`cowtool repair --drop-lost\` gives it up`,
    ],
  });
}

/** @param used as countMarks() found @throws CowError `damaged` */
export function refuseMiscount(head: CowHead, used: number, file: string): void {
  if (head.used === BigInt(used)) return;
  throw new CowError("damaged", `the head counts ${head.used} blocks, but ${used} are allocated`, {
    file,
    hints: [`run \`cowtool repair ${shellWord(file)}\` first, or serve it with --repair`],
  });
}
