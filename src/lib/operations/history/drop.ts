/**
 * Owns `drop` of a stack file that no server has: a checkpoint loses its name. Its layer stays, until a squash joins it with its
 * neighbour.
 */
import type { OperationContext } from "../../context.ts";
import { checkpointAt, dropped } from "../../stack/chain.ts";
import { OpenFiles } from "../files.ts";
import { shownPath } from "./checkpoint.ts";
import { holdChain } from "./hold.ts";

/** What `drop` did. */
export interface DropResult {
  readonly stack: string;
  readonly checkpoint: string;
  /** The layer that has no name any more. */
  readonly layer: string;
}

/** @throws CowError `not-found` for a checkpoint that it does not have; `locked`; as readStackFile */
export async function drop(stackFile: string, checkpoint: string, context: OperationContext = {}): Promise<DropResult> {
  return OpenFiles.during(context, async (files) => {
    const held = holdChain(files, stackFile, `drop NAME ${checkpoint}`, context);
    const at = checkpointAt(held.document, checkpoint, held.name);
    held.replace(dropped(held.document, at));
    return { stack: held.name, checkpoint, layer: shownPath(held, held.document.layers[at]?.file ?? "") };
  });
}
