/**
 * Owns the undo file of a merge: a cowfile over the merged base that holds what the merge overwrites, so that merging it
 * takes the merge back. Complete and durable before the first block of the base changes.
 */
import { intersect } from "../../bytes/extent.ts";
import { interrupted, makePause, type OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { Copier } from "../../device/copy.ts";
import type { PendingFile, Storage } from "../../device/storage.ts";
import { WindowedBitmapWriter } from "../../formats/cowfile/bitmap-writer.ts";
import { newHeadBlock, storedFingerprint } from "../../formats/cowfile/head.ts";
import type { CowfileLayer } from "../../formats/cowfile/layer.ts";
import {
  BITMAP_OFFSET_BYTES,
  BLOCK_BYTES,
  COW_VERSION,
  FLAG_DIRTY,
  FLAG_PACKED,
} from "../../formats/cowfile/layout.ts";
import type { MergeJournal } from "./journal.ts";
import type { JournalPlaces } from "./journal-places.ts";
import { PIECE_BYTES } from "./write-blocks.ts";

/** The head of the undo file for merging `layer`, which changes `blocks` blocks. */
export function undoHeadBlock(layer: CowfileLayer, fingerprintAfter: number, blocks: number): Uint8Array {
  const { head, geometry } = layer.opened;
  return newHeadBlock({
    ...head,
    version: COW_VERSION,
    flags: head.flags & ~(FLAG_DIRTY | FLAG_PACKED),
    mapSize: BigInt(geometry.mapSizeBytes),
    fingerprint: storedFingerprint(head.abi, fingerprintAfter),
    used: BigInt(blocks),
  });
}

/** Writes the undo file, durable but not yet under its name. The caller commits it. */
async function prepareUndo(
  storage: Storage,
  path: string,
  plan: { readonly base: BlockDevice; readonly layer: CowfileLayer; readonly headBlock: Uint8Array },
  context: OperationContext,
): Promise<PendingFile> {
  const { base, layer, headBlock } = plan;
  const { dataOffsetBytes, mapSizeBytes, virtualSizeBytes } = layer.opened.geometry;
  const pending = storage.create(path, { inputs: [base.name, layer.name] });
  try {
    const { device } = pending;
    const copier = new Copier();
    const stopped = () => interrupted(base.name, "the undo file was not complete yet; nothing was changed");
    const pause = makePause(context.signal, stopped);
    const bitmap = new WindowedBitmapWriter(device, mapSizeBytes);
    device.resize(BITMAP_OFFSET_BYTES + mapSizeBytes);
    let done = 0;
    for (const { offset, length } of layer.extents(0, virtualSizeBytes)) {
      await pause();
      if (length === 0) continue;
      bitmap.mark(offset / BLOCK_BYTES, (offset + length) / BLOCK_BYTES);
      device.resize(dataOffsetBytes + offset + length);
    }
    // Holes of the base need no space here either: the mark says that these blocks are zeros.
    for (const { offset, length } of intersect(
      layer.extents(0, virtualSizeBytes),
      base.dataExtents(0, virtualSizeBytes),
    )) {
      if (length === 0) await pause();
      for (let at = offset; at < offset + length; at += PIECE_BYTES) {
        const piece = Math.min(PIECE_BYTES, offset + length - at);
        copier.copy({
          source: base,
          sourceOffset: at,
          target: device,
          targetOffset: dataOffsetBytes + at,
          length: piece,
        });
        done += piece;
        context.onProgress?.({
          phase: "saving what will be overwritten",
          done,
          total: Math.max(done, bitmap.marked * BLOCK_BYTES),
          unit: "bytes",
        });
        await pause();
      }
    }
    bitmap.finish();
    device.write(headBlock, 0);
    device.flush();
    return pending;
  } catch (error) {
    pending.abandon();
    throw error;
  }
}

export interface UndoJob {
  readonly base: BlockDevice;
  readonly layer: CowfileLayer;
  readonly headBlock: Uint8Array;
  /** Where the undo file goes. */
  readonly path: string;
  /** Whether a file of that name is one that this merge left there before. */
  readonly replace: boolean;
  /** Where the journal goes, and what it says but for `undo_saved`. */
  readonly places: JournalPlaces;
  readonly note: MergeJournal;
}

/** Makes the undo file durable under its name, between one journal that announces it and one that counts on it. */
export async function saveUndo(storage: Storage, job: UndoJob, context: OperationContext): Promise<void> {
  const pending = await prepareUndo(storage, job.path, job, context);
  try {
    job.places.write(job.note, context);
    pending.commit({ replace: job.replace });
    job.places.write({ ...job.note, undo_saved: true }, context);
  } finally {
    pending.abandon();
  }
}
