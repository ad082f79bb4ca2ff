/**
 * Owns what a process leaves in a stack file that ends while it changes it: a checkpoint that was being made, and cowfiles
 * that are to be removed. docs/internals/checkpoints.md has every case in a table.
 */
import * as path from "node:path";
import type { Notice } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { OWN } from "../device/own-file.ts";
import type { Storage } from "../device/storage.ts";
import { CowError } from "../errors.ts";
import { isDirty } from "../formats/cowfile/head.ts";
import { CowfileLayer, readCowfileHead } from "../formats/cowfile/layer.ts";
import { readStamp } from "../formats/cowfile/live/stamp.ts";
import { committed, hasDecided, withdrawn, writtenDown } from "./chain.ts";
import { JournalFile } from "./live/journal-file.ts";
import type { Pending, StackDocument } from "./stack-document.ts";

type OnNotice = ((notice: Notice) => void) | undefined;

/** The path of a file that a stack file at `real` names. */
export function namedBy(real: string, file: string): string {
  return path.isAbsolute(file) ? file : path.join(path.dirname(real), file);
}

/**
 * The document without a pending checkpoint, as it counts. The rename of one stack file decides for itself: pending there
 * means that it was not made. Any other one was made if the deciding file has it; where that cannot be read, if the new top holds
 * something.
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
    return hasDecided(read(namedBy(real, decided_by)), checkpoint);
  } catch (error) {
    // Moved, or damaged: the new top alone tells.
    if (!(error instanceof CowError)) throw error;
  }
  const top = namedBy(real, file);
  return storage.facts(top, { own: true }) !== undefined && !isEmptyTop(storage, top);
}

/**
 * The document without what it keeps for other stack files that need it no longer: they have written the checkpoint down, or are
 * gone. One that cannot be read may need it.
 *
 * @param read as for withoutPending()
 */
export function withoutWrittenDown(
  real: string,
  document: StackDocument,
  read: (path: string) => StackDocument,
): StackDocument {
  if (!document.decided) return document;
  return writtenDown(document, (member, { name, time }) => {
    try {
      const { pending } = read(namedBy(real, member));
      return pending?.checkpoint.name !== name || pending.checkpoint.time !== time;
    } catch (error) {
      if (!(error instanceof CowError)) throw error;
      return error.code === "not-found";
    }
  });
}

/** Whether it is a cowfile in which nothing was ever written, and that no process is writing. Any doubt is a no. */
export function isEmptyTop(storage: Storage, file: string): boolean {
  if (storage.facts(file, { own: true })?.kind !== "file") return false;
  try {
    const device = storage.open(file, { lock: "shared" });
    try {
      return holdsNothing(device) && !JournalFile.saysMore(storage, file);
    } finally {
      device.close();
    }
  } catch (error) {
    if (error instanceof CowError) return false;
    throw error;
  }
}

/** @throws CowError for what is no cowfile */
function holdsNothing(device: BlockDevice): boolean {
  const layer = new CowfileLayer(device, { allowDirty: true });
  const { head, headBlock, geometry } = layer.opened;
  // A server opens a new top before the instant: it is dirty with its stamp then.
  if ((isDirty(head) && !readStamp(head, headBlock)) || head.used !== 0n) return false;
  for (const { length } of layer.extents(0, layer.virtualSizeBytes)) if (length > 0) return false;
  if (!device.seesHoles) return true;
  for (const { length } of device.dataExtents(geometry.dataOffsetBytes, device.sizeBytes)) if (length > 0) return false;
  return true;
}

/** Removes a cowfile in which nothing was ever written. @returns false for any other one, or in doubt @throws CowError */
export function removeEmptyTop(storage: Storage, file: string): boolean {
  return isEmptyTop(storage, file) && removeCowfile(storage, file, holdsNothing);
}

/** Removes the new top of a checkpoint that was not made, unless anything is in it, or a layer of the stack file is that file. */
export function removeLeftTop(
  storage: Storage,
  { path: real, document }: { readonly path: string; readonly document: StackDocument },
  { file, checkpoint }: Pending,
  onNotice: OnNotice,
): void {
  const top = namedBy(real, file);
  const identity = storage.facts(top)?.identity;
  if (identity === undefined || identitiesIn(storage, real, document).has(identity)) return;
  if (removeEmptyTop(storage, top)) return;
  const message = `was to be the new top after checkpoint "${checkpoint.name}", which was not made, and holds writes that no flush covered: kept`;
  onNotice?.({ severity: "warning", file: top, message });
}

/**
 * Removes what a document says is to be removed: cowfiles that no process has open. What it still names stays, and so does
 * anything else than a cowfile.
 *
 * @returns the names that need not be said any more
 */
export function removeGone(
  storage: Storage,
  { path: real, document }: { readonly path: string; readonly document: StackDocument },
  onNotice: OnNotice,
  most = Number.POSITIVE_INFINITY,
): readonly string[] {
  const { to_remove = [] } = document;
  if (to_remove.length === 0) return [];
  const used = identitiesIn(storage, real, document);
  let count = 0;
  return to_remove.filter((name) => {
    if (count >= most) return false;
    const file = namedBy(real, name);
    const identity = storage.facts(file, { own: true })?.identity;
    if (identity === undefined || used.has(identity)) return true;
    try {
      const isRemoved = removeCowfile(storage, file);
      if (isRemoved) count++;
      return isRemoved;
    } catch (error) {
      if (!(error instanceof CowError)) throw error;
      onNotice?.({ severity: "warning", file, message: `is no longer a layer, and stays: ${error.message}` });
      return ["bad-head", "unsupported", "packed", "exists", "usage"].includes(error.code);
    }
  });
}

/** Of the files that a document names as base or layers. */
function identitiesIn(
  storage: Storage,
  real: string,
  { base, layers }: StackDocument,
): ReadonlySet<string | undefined> {
  const files = [base, ...layers].flatMap((part) => ("file" in part ? namedBy(real, part.file as string) : []));
  return new Set(files.map((file) => storage.facts(file)?.identity));
}

/**
 * Removes a cowfile, with its journal and base record, under an exclusive lock.
 *
 * @param may looks at it under the lock
 * @returns false if it may not be removed, or another process has it open
 * @throws CowError for what is no cowfile, or cannot be removed
 */
function removeCowfile(storage: Storage, file: string, may: (device: BlockDevice) => boolean = isCowfile): boolean {
  const journal = new JournalFile(storage, file);
  try {
    const device = storage.open(file, { writable: true, lock: "exclusive", own: true });
    try {
      if (!may(device)) return false;
      journal.find();
      // The file last: killed before, the same is done again.
      journal.remove();
      storage.remove(file + OWN.baseRecord.suffix, { own: OWN.baseRecord.beginning });
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

/** @throws CowError for what is none */
function isCowfile(device: BlockDevice): boolean {
  readCowfileHead(device);
  return true;
}
