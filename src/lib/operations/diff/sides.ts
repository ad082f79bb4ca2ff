/**
 * Owns the two sides of a diff: what users name (stacks, images, bare cowfiles of one base), opened, and the question
 * where they can differ at all, answered from metadata.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { coalesce, type Extent, union } from "../../bytes/extent.ts";
import { CowError } from "../../errors.ts";
import { formatFingerprint } from "../../formats/cowfile/head.ts";
import type { Layer } from "../../formats/format.ts";
import { detectFormat } from "../../formats/registry.ts";
import { parseStack } from "../../overlay/stack.ts";
import type { OpenFiles } from "../files.ts";

/** An image to be read. */
export interface Side {
  /** What the user typed. */
  readonly name: string;
  readonly image: ByteSource;
  readonly layers: readonly Layer[];
  /** The file at the bottom, for telling whether two sides share it. */
  readonly basePath: string;
}

/** Is it one cowfile, without a base to read it over? */
export function isBareCowfile(files: OpenFiles, text: string): boolean {
  const paths = parseStack(text);
  const [path] = paths;
  return paths.length === 1 && path !== undefined && detectFormat(files.open(path, { lock: "shared" })) !== undefined;
}

export async function openSide(files: OpenFiles, name: string, stack: string): Promise<Side> {
  const { device, layers, paths } = await files.openStack(stack);
  return { name, image: device, layers, basePath: paths[0] ?? "" };
}

/** A cowfile by itself. @throws CowError as openLayer */
export async function openBare(files: OpenFiles, path: string): Promise<Layer> {
  const file = files.open(path, { lock: "shared" });
  const format = detectFormat(file);
  if (!format) throw new CowError("bad-head", "is no cowfile", { file: path });
  return format.openLayer(await format.readable(file, () => files.scratch(path)), { allowDirty: false });
}

/** @throws CowError `wrong-base` unless both were made for bases of one size and fingerprint */
export function requireSameBase(a: Layer, b: Layer): void {
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
export function candidates(files: OpenFiles, a: Side, b: Side, end: number): Iterable<Extent> {
  const identity = (path: string): string | undefined => files.storage.facts(path)?.identity;
  if (!haveSameBase(files, a, b)) return union(a.image.dataExtents(0, end), b.image.dataExtents(0, end));
  let common = 0;
  while (
    common < a.layers.length &&
    common < b.layers.length &&
    identity(a.layers[common]?.name ?? "") === identity(b.layers[common]?.name ?? "!")
  )
    common++;
  let all: Iterable<Extent> = [];
  for (const layer of [...a.layers.slice(common), ...b.layers.slice(common)]) all = union(all, layer.extents(0, end));
  return all;
}

/** Is the file at the bottom of both the same? */
export function haveSameBase({ storage }: OpenFiles, a: Side, b: Side): boolean {
  const identity = storage.facts(a.basePath)?.identity;
  return identity !== undefined && identity === storage.facts(b.basePath)?.identity;
}

/** What the layers of one side hold. */
export function heldBy(side: Side, end: number): Iterable<Extent> {
  let all: Iterable<Extent> = [];
  for (const layer of side.layers) all = union(all, layer.extents(0, end));
  return coalesce(all);
}
