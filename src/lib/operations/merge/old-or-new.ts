/**
 * Owns the proof that a base is what an interrupted merge left: of every block that the cowfile holds, each sector is
 * either as the undo file saved it or as the cowfile has it. Anything else was written by somebody since, and would be lost.
 */
import { readZeroFilled } from "../../bytes/byte-source.ts";
import { interrupted, makePause, type OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { atByte, CowError } from "../../errors.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import type { OpenFiles } from "../files.ts";
import type { FoundJournal } from "./journal-places.ts";
import { requireNoLaterChange } from "./sign-of-life.ts";
import type { UndoPlan } from "./undo-plan.ts";

const PIECE_BYTES = 1 << 20;
/** What a disk writes whole, or not at all. */
const SECTOR_BYTES = 512;

/** Proves it where there is an undo file to compare with; without one there is only the time of the last change. */
export async function requireUntouched(
  files: OpenFiles,
  at: {
    readonly rdofile: string;
    readonly base: BlockDevice;
    readonly layer: CowfileLayer;
    readonly journal: FoundJournal | undefined;
    readonly undo: UndoPlan;
    readonly force: boolean;
  },
  context: OperationContext,
): Promise<void> {
  const { path, kept } = at.undo;
  if (at.force || !at.journal) return;
  if (!at.journal.journal.undo_saved || !kept || path === null || !files.storage.facts(path))
    return requireNoLaterChange(files.storage, at.rdofile, at.journal);
  await requireOldOrNew(at.base, at.layer, files.open(path, { lock: "shared" }), context);
}

/** @throws CowError `pending-merge` at the first sector that is neither; `dirty`, `damaged` for the undo file itself */
async function requireOldOrNew(
  base: BlockDevice,
  layer: CowfileLayer,
  undo: BlockDevice,
  context: OperationContext,
): Promise<void> {
  const saved = new CowfileLayer(undo, { allowDirty: false });
  const [now, written, before] = [Buffer.alloc(PIECE_BYTES), Buffer.alloc(PIECE_BYTES), Buffer.alloc(PIECE_BYTES)];
  const pause = makePause(context.signal, () => interrupted(base.name, "nothing was changed by this command"));
  for (const { offset, length } of layer.extents(0, layer.virtualSizeBytes)) {
    if (length === 0) await pause();
    for (let at = offset; at < offset + length; at += PIECE_BYTES) {
      const size = Math.min(PIECE_BYTES, offset + length - at);
      readZeroFilled(base, now.subarray(0, size), at);
      readZeroFilled(layer.source, written.subarray(0, size), layer.locate(at));
      readZeroFilled(saved.source, before.subarray(0, size), saved.locate(at));
      for (let sector = 0; sector < size; sector += SECTOR_BYTES) {
        const end = Math.min(size, sector + SECTOR_BYTES);
        if (now.compare(written, sector, end, sector, end) === 0 || now.compare(before, sector, end, sector, end) === 0)
          continue;
        throw new CowError(
          "pending-merge",
          `was changed since the interrupted merge, at ${atByte(at + sector)}: resuming would overwrite that`,
          {
            file: base.name,
            details: { offset: at + sector },
            hints: ["--force resumes anyway"],
          },
        );
      }
      await pause();
    }
  }
}
