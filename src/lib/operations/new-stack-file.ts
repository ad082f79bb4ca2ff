/**
 * Owns making a stack file together with a new layer: both appear, or the stack file does not.
 */
import * as path from "node:path";
import { CowError, shellWord } from "../errors.ts";
import { claimOutput, type Overwrite } from "../output/claim.ts";
import { parsePart } from "../stack/part.ts";
import type { StackSpec } from "../stack/spec.ts";
import { encodeStackDocument } from "../stack/stack-document.ts";
import { documentOf } from "../stack/stack-file.ts";
import { type OpenFiles, refuseSameFile } from "./files.ts";

/**
 * Makes a layer with `make`, and then gives a stack file of it and its backing its name; without `stackFile` only the layer.
 * Everything but that name is written before the layer is made.
 *
 * @throws CowError `usage` (a stack over a stack file, a name that is an input or the layer), `exists`, `locked`; what `make` throws
 */
export async function withStackFile<Result>(
  files: OpenFiles,
  stackFile: string | undefined,
  { below, layer }: { readonly below: StackSpec; readonly layer: string },
  allowed: Overwrite,
  make: () => Promise<Result>,
): Promise<Result> {
  if (stackFile === undefined) return make();
  const { storage } = files;
  if (stackFile === "" || stackFile.startsWith("stack:"))
    throw new CowError("usage", "--stack needs the name of a file, without stack:", { file: stackFile });
  if (below.parts.some(({ listed }) => listed))
    throw new CowError("usage", `"${below.text}" is a stack file: its disk may still change below the new layer`, {
      file: stackFile,
      hints: [`name the base and the layers that do not change: \`cowtool info ${shellWord(below.text)}\` lists them`],
    });
  refuseSameFile(storage, stackFile, [...below.files, layer]);
  if (path.resolve(stackFile) === path.resolve(layer))
    throw new CowError("usage", "is the name of the new layer: the stack file needs another one", { file: stackFile });
  claimOutput(files, stackFile, allowed, "stack");
  const document = documentOf(storage, stackFile, [
    ...below.parts,
    { ...parsePart(`raw:${layer}`), format: undefined },
  ]);
  return files.write(stackFile, [], allowed, (device) => {
    device.write(encodeStackDocument(document, stackFile), 0);
    return make();
  });
}
