/**
 * Owns making the empty cowfile that becomes the top of a stack file.
 */
import * as path from "node:path";
import type { OperationContext } from "../../context.ts";
import { newLayerPath } from "../../stack/new-layer-path.ts";
import type { Stack } from "../../stack/open.ts";
import type { HeldStackFile } from "../../stack/stack-file.ts";
import type { OpenFiles } from "../files.ts";
import { requireFit } from "../fit.ts";
import { makeCowfile } from "../new-cowfile.ts";
import { specOf } from "./hold.ts";

/**
 * Makes an empty cowfile over an open stack, whole and durable. It has no base record: what is below is frozen.
 *
 * @throws CowError `exists`, `unsuitable` (an empty base, more blocks than the ABI can describe), `no-space`, `io`
 */
export async function makeTop(
  files: OpenFiles,
  below: Stack,
  output: string,
  context: OperationContext,
): Promise<void> {
  const abi = "le64" as const;
  const { device: base, paths } = below;
  const rdoBlocks = requireFit(base, undefined, abi, context);
  const over = { abi, base, basePaths: paths, inputs: paths, rdoBlocks, identity: "none" as const };
  const empty = { view: { places: () => [] }, held: [], phase: "comparing" as const };
  await makeCowfile(files, { ...over, ...empty, output, allowed: {} }, context);
}

/** The first free name for a new layer of a held stack file, beside its top, and as the stack file is to name it. */
export function newLayerOf(
  { storage }: OpenFiles,
  held: HeldStackFile,
  label: string,
): { readonly output: string; readonly stored: string } {
  const top = specOf(held).top.path;
  const output = newLayerPath(storage, held.path, top, label);
  return { output, stored: storedName(held.document.layers.at(-1)?.file ?? "", output) };
}

/** A name in the directory of another one, relative or absolute as that is. */
function storedName(beside: string, output: string): string {
  return path.join(path.dirname(beside), path.basename(output));
}
