/**
 * Owns `fork` of a stack file that no server has: a second stack file over the layers up to a checkpoint, with a top of its own.
 */
import * as path from "node:path";
import type { OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { claimOutput } from "../../output/claim.ts";
import { checkpointAt, checkpointNames, forked } from "../../stack/chain.ts";
import { isCheckpointName } from "../../stack/stack-document.ts";
import type { HeldStackFile } from "../../stack/stack-file.ts";
import { OpenFiles, refuseSameFile, storageOf } from "../files.ts";
import { isAtCheckpoint, makeCheckpoint } from "./checkpoint.ts";
import { holdChain, openHeld, specOf, stackFileName } from "./hold.ts";
import { makeTop } from "./new-top.ts";
import { claimSecond } from "./second-stack-file.ts";

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
 * Makes a stack file that shares the layers up to a checkpoint with `stackFile`. Interrupted anywhere, the same call
 * completes it.
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
    const { storage } = files;
    const held = holdChain(files, stackFile, "fork NAME@CP NEW", context);
    const second = claimSecond(files, held, request.output);
    const cowfile = request.cowfile ?? path.join(path.dirname(second.name), `${stemOf(second.name)}.cow`);
    refuseSameFile(storage, cowfile, [...specOf(held).files, second.name]);
    const name = request.checkpoint ?? stemOf(second.name);
    const real = storage.realPath(cowfile);
    const stored = path.isAbsolute(cowfile) ? real : path.relative(path.dirname(held.path), real);
    const forkedAt = (at: number) => forked(held.document, at, stored);
    const isForked = (at: number): boolean => second.says(forkedAt(at).child);
    const at = await checkpointFor(files, held, request, { name, isForked }, context);
    const { parent, child } = forkedAt(at);
    const isNamed = second.says(child);
    const result = { stack: held.name, checkpoint: name, fork: second.name, cowfile };
    if (isNamed && storage.facts(cowfile)) return { ...result, already_done: true };
    if (!isNamed && storage.facts(second.name)) throw new CowError("exists", "already exists", { file: second.name });
    claimOutput(files, cowfile, {}, "cowfile");
    const below = await openHeld(files, held, context, at + 1);
    // From now on the layers are not removed. The new stack file comes before its cowfile: it says whose that is.
    held.replace(parent);
    second.write(child);
    await makeTop(files, below, cowfile, context);
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

/** @returns the layer of the checkpoint, which is made now if none was named */
async function checkpointFor(
  files: OpenFiles,
  held: HeldStackFile,
  { checkpoint }: ForkRequest,
  { name, isForked }: { readonly name: string; readonly isForked: (at: number) => boolean },
  context: OperationContext,
): Promise<number> {
  if (checkpoint !== undefined) return checkpointAt(held.document, name, held.name);
  if (checkpointNames(held.document).includes(name)) {
    // Of this command, when it was interrupted.
    const at = checkpointAt(held.document, name, held.name);
    if (isForked(at) || isAtCheckpoint(files, held, at)) return at;
  }
  if (!isCheckpointName(name))
    throw new CowError("usage", `"${name}" is no name of a checkpoint: name the checkpoint to be forked`, {
      file: held.name,
      hints: ["STACKFILE@CP forks a checkpoint that is there"],
    });
  return (await makeCheckpoint(files, held, { as: name }, context)).at;
}

function stemOf(file: string): string {
  return path.basename(file).replace(/\.stack$/, "");
}
