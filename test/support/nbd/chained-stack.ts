/**
 * Owns stack files with checkpoints, as a server leaves them, made without one: cowfiles over each other, all but the last
 * one frozen.
 */
import { existsSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import type { LayerPart, StackDocument } from "../../../src/lib/stack/stack-document.ts";
import { makeCowfile } from "./test-server.ts";

/**
 * Makes the cowfiles that are missing, and the stack file.
 *
 * @param file of the stack; the others are in its directory
 * @returns the stack, as an export takes it
 */
export async function makeChain(
  at: (name: string) => string,
  file: string,
  base: string,
  frozen: readonly LayerPart[],
  top: string,
): Promise<string> {
  const layers: LayerPart[] = [...frozen, { file: top }];
  const below = [base];
  for (const layer of layers) {
    if (!existsSync(at(layer.file))) await makeCowfile(below.join(","), at(layer.file));
    below.push(at(layer.file));
  }
  const document: StackDocument = { cowtool_stack: 1, base: { file: basename(base) }, layers };
  writeFileSync(at(file), JSON.stringify(document));
  return `stack:${at(file)}`;
}
