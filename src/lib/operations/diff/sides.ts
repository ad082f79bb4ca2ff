/**
 * Owns the two sides of a diff: what users name (stacks, images, bare cowfiles of one base), opened, and the question
 * where they can differ at all, answered from metadata.
 */
import { type Extent, union } from "../../bytes/extent.ts";
import type { OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { formatFingerprint } from "../../formats/cowfile/head.ts";
import type { Layer } from "../../formats/format.ts";
import { allocatedBy } from "../../formats/layered-image.ts";
import { detectFormat } from "../../formats/registry.ts";
import { type Stack, sharedParts } from "../../stack/open.ts";
import { openAsLayer } from "../../stack/open-part.ts";
import type { StackPart } from "../../stack/part.ts";
import type { StackSpec } from "../../stack/spec.ts";
import type { OpenFiles } from "../files.ts";

/** Is it one layer, without a base to read it over? What can be an image by itself and is named as that is none. */
export function isBareLayer(files: OpenFiles, { base: part, layers }: StackSpec): boolean {
  if (layers.length > 0) return false;
  if (part.format !== undefined) return part.format !== "raw" && !part.format.openImage;
  const format = detectFormat(files.open(part.path, { lock: "shared" }));
  return format !== undefined && !format.openImage;
}

/** A layer by itself. @throws CowError as openLayer */
export async function openBare(files: OpenFiles, part: StackPart, { signal }: OperationContext): Promise<Layer> {
  const opened = files.openPart(part, { lock: "shared" });
  return (await openAsLayer(opened, { allowDirty: false, signal }, () => files.scratch(part.path))).layer;
}

/** @throws CowError `wrong-base` unless both were made for bases of one size and fingerprint, as far as they say */
export function requireSameBase(a: Layer, b: Layer): void {
  if (a.formatId !== b.formatId)
    throw new CowError("usage", `is of another format (${b.formatId}) than ${a.name} (${a.formatId})`, {
      file: b.name,
      hints: ["--rdofile BASE compares what they make of a base"],
    });
  const describe = ({ base }: Layer): string =>
    `${base.blocks} blocks, fingerprint ${base.fingerprint === undefined ? "unknown" : formatFingerprint(base.fingerprint)}`;
  if (a.base.blocks === b.base.blocks && a.base.fingerprint === b.base.fingerprint) return;
  throw new CowError("wrong-base", `was made for another base (${describe(b)}) than ${a.name} (${describe(a)})`, {
    file: b.name,
  });
}

/**
 * Where the sides can differ: of two stacks over one base, only what a layer holds that is not common to both; of other
 * images, what is data in either.
 */
export function candidates(a: Stack, b: Stack, end: number): Iterable<Extent> {
  const shared = sharedParts(a, b);
  if (shared === 0) return union(a.device.dataExtents(0, end), b.device.dataExtents(0, end));
  return allocatedBy([...a.layers.slice(shared - 1), ...b.layers.slice(shared - 1)], 0, end);
}
