/**
 * Owns replacing what is below the top of a running stack by other files with the same content, while clients read and write:
 *
 *   opened     the new files are whole, durable, and open with shared locks
 *   exchanged  connections take the new parts, each at its next batch; both have the same content
 *   replaced   the stack file names the new files, and says which of the old ones are to be removed
 *   retired    no connection uses the old files any more: they are closed
 *
 * Killed before "replaced", the old files count; afterwards the new ones do. Either is the same disk.
 */
import { CowError } from "../../errors.ts";
import { committed } from "../chain.ts";
import { STACK_FILE } from "../part.ts";
import { StackSpec } from "../spec.ts";
import type { StackDocument } from "../stack-document.ts";
import { type HeldStackFile, type PreparedStackFile, partsOf } from "../stack-file.ts";
import { checkpointLevels } from "./checkpoint-level.ts";
import { heldBy } from "./roll-back.ts";
import type { ServedStack } from "./served-stack.ts";
import type { LowerStack } from "./shared-lower.ts";
import type { StackParts } from "./stack-parts.ts";
import { exchangeParts, type PartsSwitch } from "./switch-parts.ts";
import type { Top } from "./top.ts";

/** What a change of the chain needs: all but the top is frozen and settled. */
export interface SettledChain {
  readonly held: HeldStackFile;
  readonly lower: LowerStack;
  readonly top: Top;
}

/**
 * The chain of a running stack, once its last checkpoint is settled.
 * @throws CowError `unsuitable` without a stack file that is written, with a top that is no cowfile, or if that failed
 */
export async function settledChain(stack: ServedStack): Promise<SettledChain> {
  const held = await heldBy(stack);
  const { top, lower } = stack.parts;
  if (!top?.nameBase)
    throw new CowError("unsuitable", "is no cowfile: layers below it stay", { file: top?.device.name });
  // Of a checkpoint of several: only its rename was missing.
  if (held.document.pending) held.replace(committed(held.document));
  return { held, lower, top };
}

/**
 * Has a running stack use what a document names below its top. `stack.retiring` ends when the old files are closed.
 *
 * @param how.beforehand is done once the new files are open, before the document counts
 * @throws CowError as LowerStacks.acquire(), and as replacing the stack file: everything is as it was, unless that is not
 *   known to be durable
 */
export async function replaceBelow(
  { stack, tell }: Omit<PartsSwitch, "next">,
  held: HeldStackFile,
  document: StackDocument,
  beforehand: (lower: LowerStack) => Promise<void> = async () => undefined,
): Promise<void> {
  const parts = partsOf({ name: held.name, path: held.path, document });
  const spec = new StackSpec(parts, `${STACK_FILE}:${held.name}`);
  const lower = await stack.acquire(spec.below);
  const old = stack.parts;
  const next: StackParts = { ...old, lower, checkpoints: checkpointLevels(spec) };
  let prepared: PreparedStackFile | undefined;
  try {
    await beforehand(lower);
    prepared = held.prepare(document);
    exchangeParts({ stack, tell, next });
  } catch (error) {
    prepared?.abandon();
    lower.release();
    throw error;
  }
  try {
    prepared.commit();
  } catch (error) {
    prepared.abandon();
    exchangeParts({ stack, tell, next: old });
    stack.retire(next);
    throw error;
  }
  stack.retire(old);
  prepared.sync();
}
