/**
 * Owns `checkpoint` of a stack file that no server has: its top is frozen under a name, and an empty cowfile is the new top.
 */
import * as path from "node:path";
import type { OperationContext } from "../../context.ts";
import {
  begun,
  checkpointAt,
  checkpointNames,
  committed,
  requireCheckpointWords,
  requireFreeName,
  withdrawn,
} from "../../stack/chain.ts";
import type { Checkpoint } from "../../stack/part.ts";
import { isEmptyTop, namedBy } from "../../stack/pending.ts";
import type { HeldStackFile } from "../../stack/stack-file.ts";
import { OpenFiles } from "../files.ts";
import { holdChain, openHeld, requireWritableTop } from "./hold.ts";
import { makeTop, newLayerOf } from "./new-top.ts";

/** What `checkpoint` is asked for. */
export interface CheckpointRequest {
  /** The name of the checkpoint: a letter or digit, then letters, digits and . _ : + -, without two dots in a row. */
  readonly as: string;
  readonly note?: string | undefined;
}

/** The checkpoint that `checkpoint` made. */
export interface CheckpointResult {
  readonly stack: string;
  readonly checkpoint: string;
  /** In UTC. */
  readonly time: string;
  readonly note: string | null;
  /** The frozen layer. */
  readonly frozen: string;
  /** The new top. */
  readonly top: string;
  /** It was there already, and nothing was written since. */
  readonly already_done: boolean;
}

/**
 * Freezes the top of a stack file under a name. Interrupted anywhere, the stack file has the checkpoint or is as before.
 *
 * @throws CowError `exists` for a name that is taken, `usage` for one or a note that cannot be; `locked` while a server or another
 *   command has the stack file; `unsuitable` if its top is frozen already; as opening the stack; `no-space`, `io`
 */
export async function checkpoint(
  stackFile: string,
  request: CheckpointRequest,
  context: OperationContext = {},
): Promise<CheckpointResult> {
  requireCheckpointWords(request.as, request.note, stackFile);
  return OpenFiles.during(context, async (files) => {
    const held = holdChain(files, stackFile, `checkpoint NAME --as ${request.as}`, context);
    const done = alreadyMade(files, held, request);
    if (done) return done;
    const made = await makeCheckpoint(files, held, request, context);
    return resultOf(held, made.at, made.checkpoint, false);
  });
}

/** @returns the checkpoint, and the index of its layer @throws CowError as checkpoint() */
export async function makeCheckpoint(
  files: OpenFiles,
  held: HeldStackFile,
  { as, note }: CheckpointRequest,
  context: OperationContext,
): Promise<{ readonly at: number; readonly checkpoint: Checkpoint }> {
  requireFreeName(held.document, as, held.name);
  requireWritableTop(held);
  const stack = await openHeld(files, held, context);
  const { output, stored } = newLayerOf(files, held, as);
  const made = { name: as, time: new Date().toISOString(), ...(note !== undefined && { note }) };
  // First: a file that no stack file names would stay for ever.
  held.replace(begun(held.document, { checkpoint: made, file: stored }));
  try {
    await makeTop(files, stack, output, context);
  } catch (error) {
    held.replace(withdrawn(held.document));
    throw error;
  }
  held.replace(committed(held.document));
  return { at: held.document.layers.length - 2, checkpoint: made };
}

/** The same command was run before, and nothing was written since. */
function alreadyMade(files: OpenFiles, held: HeldStackFile, { as }: CheckpointRequest): CheckpointResult | undefined {
  const { document } = held;
  if (!checkpointNames(document).includes(as)) return undefined;
  const at = checkpointAt(document, as, held.name);
  const made = document.layers[at]?.checkpoint;
  return made && isAtCheckpoint(files, held, at) ? resultOf(held, at, made, true) : undefined;
}

/** The top is over this layer, and empty. */
export function isAtCheckpoint(files: OpenFiles, { path: real, document }: HeldStackFile, at: number): boolean {
  const top = document.layers.at(-1);
  return at === document.layers.length - 2 && !!top && isEmptyTop(files.storage, namedBy(real, top.file));
}

function resultOf(
  held: HeldStackFile,
  at: number,
  { name, time, note }: Checkpoint,
  isDone: boolean,
): CheckpointResult {
  const { layers } = held.document;
  const shown = (index: number): string => shownPath(held, layers[index]?.file ?? "");
  return {
    stack: held.name,
    checkpoint: name,
    time,
    note: note ?? null,
    frozen: shown(at),
    top: shown(at + 1),
    already_done: isDone,
  };
}

/** A file that a stack file names, as the user would name it. */
export function shownPath({ name }: Pick<HeldStackFile, "name">, file: string): string {
  return path.isAbsolute(file) ? file : path.join(path.dirname(name), file);
}
