/**
 * Owns `fork` of a stack file that no server has: a second stack file over the layers up to a checkpoint, with a top of its own.
 */
import type { OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { checkpointAt, checkpointNames, requireFreeName } from "../../stack/chain.ts";
import { isCheckpointName } from "../../stack/stack-document.ts";
import type { HeldStackFile } from "../../stack/stack-file.ts";
import { OpenFiles, storageOf } from "../files.ts";
import { isAtCheckpoint, makeCheckpoint } from "./checkpoint.ts";
import { holdChain, openHeld, stackFileName } from "./hold.ts";
import { NewFork, stemOf } from "./new-fork.ts";
import { makeTop, newLayerOf } from "./new-top.ts";

/** What `fork` is asked for. */
export interface ForkRequest {
  /** The stack file to make. */
  readonly output: string;
  /** Default: one is made now, with the name of the new stack file. */
  readonly checkpoint?: string | undefined;
  /** The cowfile to make; default: beside the new stack file, with its name. */
  readonly cowfile?: string | undefined;
}

/** What `fork` made. */
export interface ForkResult {
  readonly stack: string;
  readonly checkpoint: string;
  /** The new stack file. */
  readonly fork: string;
  /** Its top. */
  readonly cowfile: string;
  /** Both were there already. */
  readonly already_done: boolean;
}

/**
 * Makes a stack file that shares the layers up to a checkpoint with `stackFile`. What is refused changes nothing. Interrupted
 * anywhere, the same call completes it.
 *
 * @throws CowError `not-found` for a checkpoint that it does not have; `exists` for another file under one of the names; as
 *   checkpoint()
 */
export async function fork(
  stackFile: string,
  request: ForkRequest,
  context: OperationContext = {},
): Promise<ForkResult> {
  return OpenFiles.during(context, async (files) => {
    const held = holdChain(files, stackFile, "fork NAME@CP NEW", context);
    const made = new NewFork(files, held, request.output, request.cowfile);
    const name = request.checkpoint ?? stemOf(made.stackFile);
    const found = foundCheckpoint(files, held, request, { name, made });
    const isNamed = found !== undefined && made.isNamed(found);
    const result = { stack: held.name, checkpoint: name, fork: made.stackFile, cowfile: made.cowfile };
    if (isNamed && files.storage.facts(made.cowfile)) return { ...result, already_done: true };
    if (found === undefined) requireFreeName(held.document, name, held.name);
    made.requireFree(isNamed, found === undefined ? newLayerOf(files, held, name).output : undefined);
    const at = found ?? (await makeCheckpoint(files, held, { as: name }, context)).at;
    const below = await openHeld(files, held, context, at + 1);
    await made.make(at, () => makeTop(files, below, made.cowfile, context));
    return { ...result, already_done: false };
  });
}

/** `STACKFILE[@CP]`, as it is typed. A file with an @ in its name is meant as it is, where there is one. */
export function stackFileAt(
  text: string,
  context: OperationContext = {},
): { readonly stackFile: string; readonly checkpoint: string | undefined } {
  const [, stackFile, checkpoint] = /^(.+)@([^@/]+)$/.exec(stackFileName(text)) ?? [];
  if (stackFile === undefined || storageOf(context).facts(stackFileName(text)))
    return { stackFile: text, checkpoint: undefined };
  return { stackFile, checkpoint };
}

/** @returns the layer of the checkpoint; undefined if it is to be made now */
function foundCheckpoint(
  files: OpenFiles,
  held: HeldStackFile,
  { checkpoint }: ForkRequest,
  { name, made }: { readonly name: string; readonly made: NewFork },
): number | undefined {
  if (checkpoint !== undefined) return checkpointAt(held.document, name, held.name);
  if (checkpointNames(held.document).includes(name)) {
    // Of this command, when it was interrupted.
    const at = checkpointAt(held.document, name, held.name);
    if (made.isNamed(at) || isAtCheckpoint(files, held, at)) return at;
  }
  if (isCheckpointName(name)) return undefined;
  throw new CowError("usage", `"${name}" is no name of a checkpoint: name the checkpoint to be forked`, {
    file: held.name,
    hints: ["STACKFILE@CP forks a checkpoint that is there"],
  });
}
