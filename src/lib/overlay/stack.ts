/**
 * Owns stacks as users write them, `BASE[,LAYER]…`: parsing, opening with locks, and checking that each layer was made
 * for what lies below it before anything is read through it.
 */
import type { BlockDevice } from "../device/block-device.ts";
import type { Storage } from "../device/storage.ts";
import { CowError } from "../errors.ts";
import { takeFingerprint } from "../formats/cowfile/fingerprint.ts";
import { formatFingerprint } from "../formats/cowfile/head.ts";
import type { Layer } from "../formats/format.ts";
import { requireFormat } from "../formats/registry.ts";
import { Overlay } from "./overlay.ts";

const MAX_LAYERS = 64;

/** An open stack; close() closes every file of it. */
export interface Stack {
  readonly device: BlockDevice;
  /** The files, bottom to top. */
  readonly paths: readonly string[];
  /** The bottom of it. */
  readonly base: BlockDevice;
  readonly layers: readonly Layer[];
  /** The files behind the layers, as they were opened, in the same order. */
  readonly files: readonly BlockDevice[];
  close(): void;
}

/**
 * Splits `BASE,LAYER,…` at its commas; `\,` is a literal comma.
 * @throws CowError `usage` for an empty name or more than 64 layers
 */
export function parseStack(text: string): readonly string[] {
  const parts: string[] = [];
  let part = "";
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "\\" && text[i + 1] === ",") {
      part += ",";
      i++;
    } else if (text[i] === ",") {
      parts.push(part);
      part = "";
    } else part += text[i];
  }
  parts.push(part);
  if (parts.includes(""))
    throw new CowError("usage", `"${text}" is not a stack: expected BASE[,LAYER]… without empty names`);
  if (parts.length > MAX_LAYERS + 1) throw new CowError("usage", `"${text}" has more than ${MAX_LAYERS} layers`);
  return parts;
}

/**
 * Opens a stack for reading, each file with a shared lock.
 *
 * @param options.signal stops the checks of long fingerprints
 * @throws CowError `not-found`, `locked`, …; `wrong-base` where a layer does not belong; `dirty`, `packed`, `damaged`
 */
export async function openStack(
  storage: Storage,
  text: string,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<Stack> {
  const paths = parseStack(text);
  const opened: BlockDevice[] = [];
  const scratch = (name: string): BlockDevice => {
    const device = storage.scratch(name);
    unpacked.push(device);
    return device;
  };
  const unpacked: BlockDevice[] = [];
  const close = (): void => {
    for (const device of [...unpacked.splice(0), ...opened.splice(0)]) device.close();
  };
  try {
    for (const path of paths) opened.push(storage.open(path, { lock: "shared" }));
    const [base, ...files] = opened;
    if (!base) throw new CowError("usage", "a stack needs a base");
    const layers: Layer[] = [];
    for (const file of files) {
      const below = layers.length === 0 ? base : new Overlay(text, base, layers);
      const format = requireFormat(file);
      const layer = format.openLayer(await format.readable(file, () => scratch(file.name)), { allowDirty: false });
      await requireBelongs(layer, below, options.signal);
      layers.push(layer);
    }
    const device = layers.length === 0 ? base : new Overlay(text, base, layers);
    return { device, paths, base, layers, files, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** @throws CowError `wrong-base` unless size and fingerprint of `below` are what the layer was made for */
export async function requireBelongs(layer: Layer, below: BlockDevice, signal?: AbortSignal): Promise<void> {
  const { blocks, blockBytes, fingerprint } = layer.base;
  if (blocks === undefined) return;
  const actualBlocks = Math.floor(below.sizeBytes / blockBytes);
  if (blocks !== actualBlocks) {
    throw new CowError("wrong-base", `was made for a base of ${blocks} blocks, but ${below.name} has ${actualBlocks}`, {
      file: layer.name,
      details: {
        rdo_blocks_expected: typeof blocks === "bigint" ? blocks.toString() : blocks,
        rdo_blocks_actual: actualBlocks,
      },
    });
  }
  if (fingerprint === undefined) return;
  const actual = (await takeFingerprint(below, blocks, { signal })).value;
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
