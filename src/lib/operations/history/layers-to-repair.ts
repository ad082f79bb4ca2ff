/**
 * Owns which layers of a stack file `repair` has to look at.
 */
import type { OperationContext } from "../../context.ts";
import { StackSpec } from "../../stack/spec.ts";
import { OpenFiles } from "../files.ts";
import { holdChain, isLeftDirty } from "./hold.ts";

/**
 * The layers of a stack file that were not closed, from the lowest on; where there is none its top, with `force` all of
 * them. What a checkpoint that was being made has left is settled before.
 *
 * @param stack `stack:FILE`
 * @returns each as a user would write it
 * @throws CowError `locked` while a server has the stack file; as readStackFile
 */
export function layersToRepair(
  stack: string,
  { dryRun = false, force = false }: { readonly dryRun?: boolean; readonly force?: boolean },
  context: OperationContext = {},
): readonly string[] {
  const files = new OpenFiles(context);
  try {
    if (!dryRun) holdChain(files, stack, "sync NAME", context);
    const { layers, top } = StackSpec.parse(files.storage, stack);
    const dirty = layers.filter(({ path }) => files.storage.facts(path) && isLeftDirty(files.storage, path));
    return (force ? layers : dirty.length > 0 ? dirty : [top]).map(({ text }) => text);
  } finally {
    files.close();
  }
}
