/**
 * Owns the steps of a rollback of a running stack that no client uses: a new top over the layers up to a checkpoint.
 *
 *   announced  the stack file says that the new top's file is to be removed: it is not one of its layers yet
 *   made       the new top is whole and durable, and open
 *   decided    the stack file names the new top, and says that the layers above the checkpoint are to be removed
 *   switched   threads know the new parts; the old top is closed
 *
 * Killed before "decided" the old chain counts, and the next holder removes the new top; afterwards the new one does, and
 * the next holder removes the old layers.
 */
import * as path from "node:path";
import { CowError } from "../../errors.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { announced, committed, rolledBack } from "../chain.ts";
import { STACK_FILE } from "../part.ts";
import { StackSpec } from "../spec.ts";
import type { StackDocument } from "../stack-document.ts";
import { type HeldStackFile, partsOf } from "../stack-file.ts";
import { type Member, makeTop } from "./checkpoint-chain.ts";
import { checkpointLevels } from "./checkpoint-level.ts";
import type { ServedStack } from "./served-stack.ts";
import { exchangeParts, switchParts } from "./switch-parts.ts";
import type { Top } from "./top.ts";

/**
 * The stack file of a running stack that is written, once what it was made of before its last checkpoint is settled.
 * @throws CowError `unsuitable` for a stack without one
 */
export async function heldBy(stack: ServedStack): Promise<HeldStackFile> {
  await stack.settling;
  const { held, parts } = stack;
  if (!held || !parts.top)
    throw new CowError("unsuitable", "has no stack file that this server writes: it has no checkpoints", {
      file: stack.name,
      hints: ["`cowtool create --stack NAME.stack` makes one, and stack:NAME.stack is what is served"],
    });
  if (parts.frozen)
    throw new CowError("unsuitable", "is not settled since the last checkpoint: serve its stack anew", {
      file: parts.frozen.top.device.name,
    });
  // Of a checkpoint of several: only its rename was missing.
  if (held.document.pending) held.replace(committed(held.document));
  return held;
}

/** The checkpoints of a document. */
function levelsOf({ name, path: real }: HeldStackFile, document: StackDocument) {
  return checkpointLevels(new StackSpec(partsOf({ name, path: real, document }), `${STACK_FILE}:${name}`));
}

/**
 * Takes a stack back to its layer `at`. No client uses it, and none can begin to.
 *
 * @param keep makes another stack file that names the old chain; the layers up to the checkpoint are shared then
 * @throws CowError `unsuitable` without a stack file, or for a checkpoint of another size; `no-space`, `io`: the old chain counts then
 */
export async function rollBackStack(
  { stack, storage, newTop, tell }: Member,
  at: number,
  keep: ((held: HeldStackFile) => void) | undefined,
): Promise<void> {
  const held = await heldBy(stack);
  const old = stack.parts;
  if (!old.top) throw new Error("a writable stack");
  const lower = old.lower.at(at + 1);
  let top: Top | undefined;
  try {
    const { sizeBytes } = lower.stack.device;
    if (Math.floor(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES !== stack.sizeBytes)
      throw new CowError("unsuitable", "had another size at that checkpoint, which clients would not learn", {
        file: held.name,
        hints: ["close the export, and use `cowtool rollback`"],
      });
    keep?.(held);
    const stored = path.relative(path.resolve(path.dirname(held.path)), path.resolve(newTop));
    held.replace(announced(held.document, stored));
    makeTop(storage, old.top, newTop, await lower.fingerprint(stack.sizeBytes / BLOCK_BYTES));
    top = stack.openNext(newTop);
    const { document } = rolledBack(held.document, at, stored, keep !== undefined);
    const next = { lower, left: undefined, frozen: undefined, top, checkpoints: levelsOf(held, document) };
    await switchParts([{ stack, next, tell }], () => held.replace(document));
  } catch (error) {
    if (stack.parts.top === old.top) {
      lower.release();
      top?.abandon();
      removeNow(held);
    }
    throw error;
  }
  if (keep) old.top.close();
  else old.top.abandon();
  stack.retire(old);
  await stack.retiring;
  // It was used twice for a moment: retire() releases only what is used no more.
  if (lower === old.lower) lower.release();
}

/** What fails here is done by the next holder of the stack file. */
function removeNow(held: HeldStackFile): void {
  try {
    held.removeGone();
  } catch (error) {
    if (!(error instanceof CowError)) throw error;
  }
}

/** The stack file was replaced by one with the same layers and other names of checkpoints: the stack has these. */
export function renameCheckpoints({ stack, tell }: Pick<Member, "stack" | "tell">, held: HeldStackFile): void {
  exchangeParts({ stack, tell, next: { ...stack.parts, checkpoints: levelsOf(held, held.document) } });
}
