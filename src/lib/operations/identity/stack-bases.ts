/**
 * Owns asking every cowfile of a stack whether what it is over was changed since its base was recorded, for operations that make
 * an output of layers. The output's own record would vouch for the base as it is now: the change would be noticed no more.
 */
import type { OperationContext } from "../../context.ts";
import { allocatedBy } from "../../formats/layered-image.ts";
import { formatOf } from "../../formats/registry.ts";
import type { Stack } from "../../stack/open.ts";
import { belowLayer } from "../../stack/overlay.ts";
import type { OpenFiles } from "../files.ts";
import { requireSameContent } from "./merge-guard.ts";

export interface Asked {
  /** The lowest layer that goes into the output, from 1; default the first. */
  readonly from?: number;
  /** What to do instead, as a hint; without it a change is a warning. */
  readonly way: string | undefined;
}

/**
 * A change that a cowfile, or a layer above it, holds does not show.
 * @throws CowError `wrong-base` for a base that was changed where it shows; `io`, `interrupted`
 */
export async function requireSameBases(
  { storage }: OpenFiles,
  stack: Pick<Stack, "spec" | "base" | "layers" | "pathsOf">,
  { from = 1, way }: Asked,
  context: OperationContext,
): Promise<void> {
  const { spec, layers } = stack;
  for (let number = from; number <= layers.length; number++) {
    const layer = layers[number - 1];
    const part = spec.layers[number - 1];
    if (!layer || !part || !formatOf(layer)?.recordsBase) continue;
    const held = layers.slice(number - 1);
    const hiding = { extents: (start: number, end: number) => allocatedBy(held, start, end) };
    const rdofile = spec.lower(number - 1).text;
    const paths = stack.pathsOf(number);
    const at = { base: belowLayer(stack, number), rdofile, paths, layer, hiding, cowfile: part.path };
    await requireSameContent(storage, at, way, context);
  }
}
