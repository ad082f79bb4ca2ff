/**
 * Owns the proof that a base is as an interrupted merge left it. With an undo file, its content proves it: each sector
 * of the cowfile's blocks equals the undo file's or the cowfile's. Any other content was written by another program
 * since, and would be lost. Otherwise times decide: a merge touches its journal while it writes, and a base that was
 * changed later was changed by another program. That costs nothing, and notices every change to a file that comes a
 * minute after the interruption; devices have no such time.
 */
import { interrupted, makePause, type OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import type { Storage } from "../../device/storage.ts";
import { atByte, CowError } from "../../errors.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import type { FoundJournal } from "../../notes/journal-places.ts";
import type { OpenFiles } from "../files.ts";
import { COMPARE_BYTES, comparedPieces } from "./already.ts";
import type { UndoPlan } from "./decide.ts";

/** The unit that a disk writes whole, or not at all. */
const SECTOR_BYTES = 512;
const BEAT_MS = 250;
/** Writing a piece takes less, and the times of journal and base become durable within this. */
const SLACK_MS = 60_000;
/** The first byte of every merge journal: rewriting it changes only the time. */
const FIRST_BYTE = Buffer.from("{");

/** The sign of life of a merge, made before each piece is written. @param journal open for writing */
export function makeSignOfLife(journal: BlockDevice): () => void {
  let last = Number.NEGATIVE_INFINITY;
  return () => {
    const now = performance.now();
    if (now - last < BEAT_MS) return;
    journal.write(FIRST_BYTE, 0);
    last = now;
  };
}

/** @throws CowError `pending-merge` if the base was changed since, as far as that can be told; `dirty`, `damaged` for the undo file */
export async function requireUntouched(
  files: OpenFiles,
  at: {
    readonly rdofile: string;
    readonly base: BlockDevice;
    readonly layer: CowfileLayer;
    readonly journal: FoundJournal;
    readonly undo: UndoPlan;
  },
  { signal }: OperationContext,
): Promise<void> {
  const { base, layer, journal, undo } = at;
  if (!journal.journal.undo_saved || undo.make || undo.path === null || !files.storage.facts(undo.path))
    return requireNoLaterChange(files.storage, at.rdofile, journal);
  const saved = new CowfileLayer(files.open(undo.path, { lock: "shared" }), { allowDirty: false });
  const buffer = Buffer.alloc(COMPARE_BYTES);
  const pause = makePause(signal, () => interrupted(base.name, "nothing was changed by this command"));
  for (const { offset, ours, theirs } of comparedPieces(layer, base)) {
    const before = buffer.subarray(0, ours.length);
    saved.read(before, offset);
    for (let sector = 0; sector < ours.length; sector += SECTOR_BYTES) {
      const [now, written, old] = [theirs, ours, before].map((bytes) => bytes.subarray(sector, sector + SECTOR_BYTES));
      if (!now || !written || !old || now.equals(written) || now.equals(old)) continue;
      throw new CowError(
        "pending-merge",
        `was changed since the interrupted merge, at ${atByte(offset + sector)}: resuming would overwrite that`,
        { file: base.name, details: { offset: offset + sector }, hints: ["--force resumes anyway"] },
      );
    }
    await pause();
  }
}

/** @throws CowError `pending-merge` if the base was changed after the interrupted merge wrote to it last, as times tell */
export function requireNoLaterChange(storage: Storage, rdofile: string, found: FoundJournal): void {
  const base = storage.facts(rdofile);
  const changed = base?.kind === "file" ? base.modifiedMs : undefined;
  const merged = storage.facts(found.path, { own: true })?.modifiedMs;
  if (changed === undefined || merged === undefined || changed <= merged + SLACK_MS) return;
  const [changedAt, mergedAt] = [changed, merged].map((ms) => new Date(ms).toISOString());
  throw new CowError(
    "pending-merge",
    `was changed at ${changedAt}, but the interrupted merge wrote to it last at ${mergedAt}: resuming would overwrite that`,
    {
      file: rdofile,
      details: { journal: found.path },
      hints: ["--force resumes anyway, which is right if the base was only copied or touched"],
    },
  );
}
