/**
 * Owns opening a stack: its parts with their locks, and the check that each layer was made for its backing before anything is
 * read through it.
 */
import type { OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import type { Storage } from "../device/storage.ts";
import { CowError } from "../errors.ts";
import { takeFingerprint } from "../formats/cowfile/fingerprint.ts";
import { formatFingerprint } from "../formats/cowfile/head.ts";
import { BLOCK_BYTES } from "../formats/cowfile/layout.ts";
import { fitsSize, type Layer, type Remarks } from "../formats/format.ts";
import { type OpenPart, openAsLayer, openBase, openPart, type PartOpener } from "./open-part.ts";
import { Overlay } from "./overlay.ts";
import { isListedOver, type StackPart } from "./part.ts";
import { StackSpec } from "./spec.ts";

/** An open stack; close() closes all of its files. */
export interface Stack {
  readonly spec: StackSpec;
  readonly device: BlockDevice;
  /** All open files. */
  readonly files: readonly BlockDevice[];
  /** Every file, bottom to top, including those that a part names itself. */
  readonly paths: readonly string[];
  /** The identity of each part, base first: equal for two that are the same bytes of the same files. */
  readonly keys: readonly (string | undefined)[];
  /** The bottom of the stack. */
  readonly base: BlockDevice;
  readonly layers: readonly Layer[];
  /** The files of the lowest `count` parts; the base counts as one. */
  pathsOf(count: number): readonly string[];
  /** How each layer was opened, in the same order. */
  readonly parts: readonly OpenPart[];
  close(): void;
}

/** How a stack is opened. */
export interface OpenStackOptions extends Pick<OperationContext, "signal" | "onNotice"> {
  /** The lowest parts, which are open already, and stay open when the stack is closed. */
  readonly below?: Stack | undefined;
}

/**
 * Opens a stack for reading, each file with a shared lock.
 *
 * @param stack `BASE[,LAYER]…`, or that parsed
 * @param options.signal stops the checks of long fingerprints
 * @param options.onNotice receives warnings for readers of the parts that are opened
 * @throws CowError `not-found`, `locked`, …; `wrong-base` where a layer does not belong; `unsuitable` for a base that looks
 *   like another format; `dirty`, `packed`, `damaged`, …
 */
export async function openStack(
  storage: Storage,
  stack: string | StackSpec,
  options: OpenStackOptions = {},
): Promise<Stack> {
  const spec = StackSpec.parse(storage, stack);
  const opened: BlockDevice[] = [];
  const keep = (device: BlockDevice): void => void opened.push(device);
  const opener: PartOpener = { storage, how: { lock: "shared" }, keep };
  const close = (): void => {
    for (const device of opened.splice(0).reverse()) device.close();
  };
  try {
    const lowest = options.below ?? openPart(spec.base, opener);
    const parts = spec.layers.slice(options.below?.layers.length ?? 0).map((part) => openPart(part, opener));
    const from = "device" in lowest ? lowest : bottom(storage, lowest, options);
    const { base } = from;
    const layers = [...from.layers];
    const keys = [...from.keys];
    for (const part of parts) {
      // The backing of a layer does not grow when the next layer is added.
      const below = layers.length === 0 ? base : new Overlay(spec.lower(layers.length).text, base, [...layers]);
      const scratch = (): BlockDevice => {
        const device = storage.scratch(part.file.name);
        keep(device);
        return device;
      };
      const { layer } = await openAsLayer(part, { allowDirty: false, backing: below, signal: options.signal }, scratch);
      if (!isYetToBeNamed(layer, part.part, spec.layers[layers.length - 1]))
        await requireBelongs(layer, below, options.signal);
      tell(options, layer);
      layers.push(layer);
      keys.push(keyOf(storage, part, layer));
    }
    const device = layers.length === 0 ? base : new Overlay(spec.text, base, layers);
    // No list is made in vain: a deep stack is opened part by part.
    const pathsOf = (count: number): readonly string[] =>
      count <= from.keys.length
        ? from.pathsOf(count)
        : [...from.paths, ...parts.slice(0, count - from.keys.length).flatMap(({ paths }) => paths)];
    const files = [...(options.below?.files ?? []), ...opened];
    const all = { parts: [...from.parts, ...parts], paths: pathsOf(keys.length) };
    return { spec, device, files, pathsOf, keys, base, layers, close, ...all };
  } catch (error) {
    close();
    throw error;
  }
}

/**
 * A layer that was put over another one while that was still written does not know its fingerprint at first. The stack file
 * says that it belongs there.
 */
export function isYetToBeNamed({ base }: Layer, part: StackPart, below: StackPart | undefined): boolean {
  return base.fingerprint === 0 && isListedOver(part, below);
}

/** The bottom of a stack as what is below its layers. @throws CowError as openBase */
function bottom(
  storage: Storage,
  part: OpenPart,
  options: OpenStackOptions,
): Pick<Stack, "base" | "layers" | "parts" | "keys" | "paths" | "pathsOf"> {
  const base = openBase(part);
  tell(options, base);
  const { paths } = part;
  const pathsOf = (count: number): readonly string[] => (count > 0 ? paths : []);
  return { base, layers: [], parts: [], keys: [keyOf(storage, part, undefined)], paths, pathsOf };
}

function tell(
  { onNotice }: Pick<OperationContext, "onNotice">,
  { name, warnings = [] }: Remarks & { readonly name: string },
): void {
  for (const message of warnings) onNotice?.({ severity: "warning", file: name, message });
}

/** Undefined if a file has no identity. */
function keyOf(storage: Storage, { part, paths }: OpenPart, layer: Layer | undefined): string | undefined {
  const files = paths.map((path) => storage.facts(path)?.identity);
  if (files.includes(undefined)) return undefined;
  const format = layer?.formatId ?? (typeof part.format === "object" ? part.format.id : "raw");
  return JSON.stringify([format, [...part.settings].sort(), files]);
}

/** How many of the lowest parts of both are the same; 0 for other bases. */
export function sharedParts(a: Pick<Stack, "keys">, b: Pick<Stack, "keys">): number {
  let count = 0;
  while (a.keys[count] !== undefined && a.keys[count] === b.keys[count]) count++;
  return count;
}

/** How many layers of the stack the base contains, if it is the lower part of it. */
export function commonHeight(stack: Stack, base: Stack): number | undefined {
  return sharedParts(stack, base) === base.keys.length ? base.layers.length : undefined;
}

/** Takes the fingerprint of the first `blocks` of a base, which are remembered. @throws CowError `io`, `interrupted` */
export async function fingerprintBelow(
  below: BlockDevice,
  blocks: number | bigint,
  signal: AbortSignal | undefined,
): Promise<number> {
  const { value, contributions } = await takeFingerprint(below, Number(blocks), { signal });
  below.remember?.(contributions.map(({ block }) => ({ offset: block * BLOCK_BYTES, length: BLOCK_BYTES })));
  return value;
}

/**
 * @param fingerprintOf the first blocks of `below`; default: it is taken now
 * @throws CowError `wrong-base` unless the layer was made for size and fingerprint of `below`
 */
export async function requireBelongs(
  layer: Layer,
  below: BlockDevice,
  signal?: AbortSignal,
  fingerprintOf = (blocks: number | bigint): Promise<number> => fingerprintBelow(below, blocks, signal),
): Promise<void> {
  const { blocks, blockBytes, fingerprint } = layer.base;
  if (blocks === undefined) return;
  const actualBlocks = Math.floor(below.sizeBytes / blockBytes);
  if (!fitsSize(layer.base, actualBlocks)) {
    throw new CowError("wrong-base", `was made for a base of ${blocks} blocks, but ${below.name} has ${actualBlocks}`, {
      file: layer.name,
      details: {
        rdo_blocks_expected: typeof blocks === "bigint" ? blocks.toString() : blocks,
        rdo_blocks_actual: actualBlocks,
      },
    });
  }
  if (fingerprint === undefined) return;
  const actual = await fingerprintOf(blocks);
  if (actual !== fingerprint) {
    throw new CowError(
      "wrong-base",
      `was made for a base with fingerprint ${formatFingerprint(fingerprint)}, but that of ${below.name} is ${formatFingerprint(actual)}`,
      {
        file: layer.name,
        details: {
          fingerprint_expected: formatFingerprint(fingerprint),
          fingerprint_actual: formatFingerprint(actual),
        },
      },
    );
  }
}
