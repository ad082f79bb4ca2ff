/**
 * Owns what counts of a stack file in which a checkpoint was being made: was it made or not, and what becomes of the cowfile
 * that was to be its new top. docs/internals/checkpoints.md has every case in a table.
 */
import * as path from "node:path";
import type { Notice } from "../context.ts";
import type { Storage } from "../device/storage.ts";
import { CowError } from "../errors.ts";
import { isDirty } from "../formats/cowfile/head.ts";
import { CowfileLayer } from "../formats/cowfile/layer.ts";
import { readStamp } from "../formats/cowfile/live/stamp.ts";
import { committed, withdrawn } from "./chain.ts";
import { JournalFile } from "./live/journal-file.ts";
import type { Pending, StackDocument } from "./stack-document.ts";

/** The path of a file that a stack file at `real` names. */
export function namedBy(real: string, file: string): string {
  return path.isAbsolute(file) ? file : path.join(path.dirname(real), file);
}

/**
 * The document without a pending checkpoint, as it counts. The rename of one stack file decides for itself: pending there
 * means that it was not made. For any other one it was made if the deciding file has it, or if the new top holds something.
 *
 * @param real the path of the stack file
 * @param read reads another stack file, by its path @throws CowError
 */
export function withoutPending(
  storage: Storage,
  real: string,
  document: StackDocument,
  read: (path: string) => StackDocument,
): StackDocument {
  const { pending } = document;
  if (!pending) return document;
  return isDecidedElsewhere(storage, real, pending, read) ? committed(document) : withdrawn(document);
}

function isDecidedElsewhere(
  storage: Storage,
  real: string,
  { decided_by, checkpoint, file }: Pending,
  read: (path: string) => StackDocument,
): boolean {
  if (decided_by === undefined) return false;
  try {
    const { layers } = read(namedBy(real, decided_by));
    if (layers.some((layer) => layer.checkpoint?.name === checkpoint.name && layer.checkpoint.time === checkpoint.time))
      return true;
  } catch (error) {
    // Moved, or damaged: the new top alone tells.
    if (!(error instanceof CowError)) throw error;
  }
  const top = namedBy(real, file);
  return storage.facts(top, { own: true }) !== undefined && !isEmptyTop(storage, top);
}

/** Whether it is a cowfile in which nothing was ever written, and that no process is writing. Any doubt is a no. @internal */
export function isEmptyTop(storage: Storage, file: string): boolean {
  if (storage.facts(file, { own: true })?.kind !== "file") return false;
  try {
    const device = storage.open(file, { lock: "shared" });
    try {
      const layer = new CowfileLayer(device, { allowDirty: true });
      const { head, headBlock, geometry } = layer.opened;
      // A server opens a new top before the instant: it is dirty with its stamp then.
      if ((isDirty(head) && !readStamp(head, headBlock)) || head.used !== 0n) return false;
      for (const { length } of layer.extents(0, layer.virtualSizeBytes)) if (length > 0) return false;
      for (const { length } of device.dataExtents(geometry.dataOffsetBytes, device.sizeBytes))
        if (length > 0 && device.seesHoles) return false;
    } finally {
      device.close();
    }
    return !JournalFile.saysMore(storage, file);
  } catch (error) {
    if (error instanceof CowError) return false;
    throw error;
  }
}

/** Removes the new top of a checkpoint that was not made, unless anything is in it, or a layer of the stack file is that file. */
export function removeLeftTop(
  storage: Storage,
  { path: real, document }: { readonly path: string; readonly document: StackDocument },
  { file, checkpoint }: Pending,
  onNotice: ((notice: Notice) => void) | undefined,
): void {
  const top = namedBy(real, file);
  const identity = storage.facts(top)?.identity;
  if (identity === undefined) return;
  if (document.layers.some((layer) => storage.facts(namedBy(real, layer.file))?.identity === identity)) return;
  if (removeIfEmpty(storage, top)) return;
  const message = `was to be the new top after checkpoint "${checkpoint.name}", which was not made, and holds writes that no flush covered: kept`;
  onNotice?.({ severity: "warning", file: top, message });
}

/** Removes a cowfile in which nothing was ever written, with its journal. @returns false where it stays */
function removeIfEmpty(storage: Storage, file: string): boolean {
  if (!isEmptyTop(storage, file)) return false;
  const journal = new JournalFile(storage, file);
  try {
    // Held, so that no process begins to write it meanwhile.
    const device = storage.open(file, { writable: true, lock: "exclusive" });
    try {
      journal.find();
      journal.remove();
      storage.remove(file);
    } finally {
      device.close();
    }
    return true;
  } catch (error) {
    if (error instanceof CowError && error.code === "locked") return false;
    throw error;
  } finally {
    journal.close();
  }
}
