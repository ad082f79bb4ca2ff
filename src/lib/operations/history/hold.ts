/**
 * Owns beginning a change of a stack file that no server has: it is held, layers that a killed server left are taken up from
 * their journals, and the stack is open for reading.
 */
import type { OperationContext } from "../../context.ts";
import type { Storage } from "../../device/storage.ts";
import { CowError } from "../../errors.ts";
import { isDirty } from "../../formats/cowfile/head.ts";
import { cowfileFormat } from "../../formats/cowfile/index.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { detectFormat } from "../../formats/registry.ts";
import { WritableCowfile } from "../../stack/live/open-cowfile.ts";
import type { Stack } from "../../stack/open.ts";
import { isFrozen, STACK_FILE, type StackPart } from "../../stack/part.ts";
import { StackSpec } from "../../stack/spec.ts";
import { HeldStackFile, partsOf, readStackFile } from "../../stack/stack-file.ts";
import type { OpenFiles } from "../files.ts";

/** The name of a stack file that was given as such, or as the stack `stack:FILE`. */
export function stackFileName(text: string): string {
  return text.startsWith(`${STACK_FILE}:`) ? text.slice(STACK_FILE.length + 1) : text;
}

/**
 * Holds a stack file.
 *
 * @param instead what `cowtool ctl` does where a server has it: `checkpoint NAME --as CP`
 * @throws CowError `locked` with that hint; `unsuitable` for one without layers; as readStackFile
 */
export function holdChain(files: OpenFiles, text: string, instead: string, context: OperationContext): HeldStackFile {
  const file = stackFileName(text);
  let held: HeldStackFile;
  try {
    held = files.keep(HeldStackFile.hold(files.storage, readStackFile(files.storage, file), context));
  } catch (error) {
    if (!(error instanceof CowError) || error.code !== "locked") throw error;
    const { message, details, hints } = error;
    const way = `if a server serves it: \`cowtool ctl ${instead}\``;
    throw new CowError("locked", message, { file, details, hints: [way, ...hints], cause: error });
  }
  if (held.document.layers.length > 0) return held;
  throw new CowError("unsuitable", "has no layer: its base is never written", { file });
}

/** The stack that a held file names, as it is now. */
export function specOf(held: HeldStackFile): StackSpec {
  return new StackSpec(partsOf(held), `${STACK_FILE}:${held.name}`);
}

/**
 * Opens the base and the lowest layers of a held stack file, each with a shared lock.
 *
 * @param count of layers; default: all of them
 * @throws CowError as openStack
 */
export async function openHeld(
  files: OpenFiles,
  held: HeldStackFile,
  context: OperationContext,
  count = held.document.layers.length,
): Promise<Stack> {
  const spec = specOf(held);
  for (const part of spec.layers.slice(0, count)) takeUp(files.storage, part, context);
  return await files.openStack(count === spec.layers.length ? spec : spec.lower(count));
}

/** @throws CowError `unsuitable` for a stack whose top is frozen already: nothing was written since */
export function requireWritableTop(held: HeldStackFile): StackPart {
  const { top } = specOf(held);
  if (!isFrozen(top)) return top;
  throw new CowError("unsuitable", "its topmost layer is frozen already: a fork or a rollback puts one over it", {
    file: held.name,
  });
}

/** Takes a layer that a server of ours left dirty from its journal. @throws CowError `dirty` if that does not help; `locked` */
export function takeUp(storage: Storage, { path }: StackPart, { onNotice }: OperationContext): void {
  if (!storage.facts(path) || !isLeftDirty(storage, path)) return;
  const device = storage.open(path, { writable: true, lock: "exclusive" });
  try {
    WritableCowfile.open(storage, path, device, { ...(onNotice && { onNotice }) }).close();
  } catch (error) {
    device.close();
    throw error;
  }
  onNotice?.({
    severity: "note",
    file: path,
    message: "was left by a server that was killed: taken up from its journal",
  });
}

/** A cowfile that was not closed. */
export function isLeftDirty(storage: Storage, path: string): boolean {
  const device = storage.open(path, { lock: "shared" });
  try {
    if (detectFormat(device) !== cowfileFormat) return false;
    return isDirty(new CowfileLayer(device, { allowDirty: true }).opened.head);
  } catch (error) {
    // Opening the stack says what is wrong.
    if (error instanceof CowError) return false;
    throw error;
  } finally {
    device.close();
  }
}
