/**
 * Owns `rollback` of a stack file that no server has: a new top over a checkpoint. What was written since is removed, or kept
 * in a stack file of its own.
 */
import type { OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { announced, checkpointAt, checkpointNames, rolledBack } from "../../stack/chain.ts";
import type { HeldStackFile } from "../../stack/stack-file.ts";
import { OpenFiles } from "../files.ts";
import { isAtCheckpoint, shownPath } from "./checkpoint.ts";
import { holdChain, openHeld } from "./hold.ts";
import { makeTop, newLayerOf } from "./new-top.ts";
import { claimSecond, type SecondStackFile } from "./second-stack-file.ts";

/** What `rollback` is asked for. */
export interface RollbackRequest {
  readonly checkpoint: string;
  /** A stack file to be made that names the layers as they were. */
  readonly keep?: string | undefined;
  /** Also remove checkpoints that are later than this one. */
  readonly discard?: boolean | undefined;
  /** Asked before files are removed, with their names; throws `declined` for a no. Default: yes. */
  readonly confirm?: ((files: readonly string[]) => Promise<void>) | undefined;
}

/** What `rollback` did. */
export interface RollbackResult {
  readonly stack: string;
  readonly checkpoint: string;
  /** The new top. */
  readonly top: string;
  /** The stack file that names the layers as they were. */
  readonly kept: string | null;
  /** Files that are no longer layers, and were removed. */
  readonly removed: readonly string[];
  /** Files that are to be removed once no process has them open. */
  readonly left: readonly string[];
  /** Checkpoints that went with them. */
  readonly discarded: readonly string[];
  /** Nothing was written since the checkpoint: nothing was changed. */
  readonly already_done: boolean;
}

/**
 * Goes back to a checkpoint. Interrupted anywhere, the same call completes it.
 *
 * @throws CowError `not-found` for a checkpoint that it does not have; `usage` if later checkpoints would go without `discard`
 *   or `keep`; `exists` for the file to be kept; as checkpoint()
 */
export async function rollback(
  stackFile: string,
  request: RollbackRequest,
  context: OperationContext = {},
): Promise<RollbackResult> {
  return OpenFiles.during(context, async (files) => {
    const held = holdChain(files, stackFile, `rollback NAME ${request.checkpoint}`, context);
    const at = checkpointAt(held.document, request.checkpoint, held.name);
    const kept = request.keep === undefined ? undefined : claimSecond(files, held, request.keep);
    const isDone = isAtCheckpoint(files, held, at);
    const before = new Set(held.document.to_remove);
    const lost = isDone ? [] : checkpointNames({ layers: held.document.layers.slice(at + 1) });
    if (!isDone) {
      if (!kept) {
        requireDiscard(lost, request, held.name);
        await request.confirm?.(rolledBack(held.document, at, "").gone.map(({ file }) => shownPath(held, file)));
      }
      await goBack(files, held, at, kept, context);
    }
    const gone = held.removeGone(context.onNotice).filter((file) => !before.has(file));
    const shown = (file: string): string => shownPath(held, file);
    return {
      stack: held.name,
      checkpoint: request.checkpoint,
      top: shown(held.document.layers.at(-1)?.file ?? ""),
      // Nothing was changed now, but perhaps by a call that was interrupted.
      kept: kept && (!isDone || files.storage.facts(kept.name)) ? kept.name : null,
      removed: gone.map(shown),
      left: (held.document.to_remove ?? []).map(shown),
      discarded: kept ? [] : lost,
      already_done: isDone,
    };
  });
}

async function goBack(
  files: OpenFiles,
  held: HeldStackFile,
  at: number,
  kept: SecondStackFile | undefined,
  context: OperationContext,
): Promise<void> {
  const below = await openHeld(files, held, context, at + 1);
  kept?.keep(held, at);
  const { output, stored } = newLayerOf(files, held, held.document.layers[at]?.checkpoint?.name ?? "top");
  // A file that no stack file names would stay for ever.
  held.replace(announced(held.document, stored));
  await makeTop(files, below, output, context);
  held.replace(rolledBack(held.document, at, stored, kept !== undefined).document);
}

/** @throws CowError `usage` */
export function requireDiscard(
  lost: readonly string[],
  { discard, checkpoint }: Pick<RollbackRequest, "discard" | "checkpoint">,
  file: string,
): void {
  if (lost.length === 0 || discard) return;
  throw new CowError("usage", `has checkpoints that are later than "${checkpoint}": ${lost.join(", ")}`, {
    file,
    hints: ["--discard removes them, too; --keep FILE keeps everything as it is in a stack file of its own"],
  });
}
