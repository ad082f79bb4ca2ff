/**
 * Owns planning a conversion: the image, the output's base, and which parts the output holds. Opens the inputs and
 * changes nothing.
 */
import { widen } from "../../bytes/extent.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { CowError } from "../../errors.ts";
import type { Layer, LayerFormat } from "../../formats/format.ts";
import { LayeredImage } from "../../formats/layered-image.ts";
import { detectFormat, formatById, writtenFormat } from "../../formats/registry.ts";
import { differences } from "../../output/differences.ts";
import type { Held } from "../../output/write-image.ts";
import { commonHeight, type Stack } from "../../stack/open.ts";
import type { StackSpec } from "../../stack/spec.ts";
import type { OpenFiles } from "../files.ts";
import type { ConvertRequest } from "./request.ts";

/** The base of a layer. */
export interface BelowOutput {
  /** Undefined for a cowfile by itself. */
  readonly spec: StackSpec | undefined;
  /** For messages. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Undefined if a cowfile is converted without its base. */
  readonly device: BlockDevice | undefined;
  readonly paths: readonly string[];
}

export interface Plan {
  /** Undefined for a cowfile by itself. */
  readonly stack: Stack | undefined;
  readonly view: LayeredImage;
  /** The whole image, for reading through the layers. */
  readonly image: BlockDevice | undefined;
  /** The bottom of the stack; undefined for a cowfile by itself. */
  readonly base: BlockDevice | undefined;
  /** Every file that is read. */
  readonly paths: readonly string[];
  /** All layers of the stack; the output replaces those from `height` on. */
  readonly layers: readonly Layer[];
  readonly height: number;
  /** Undefined for a whole image. */
  readonly below: BelowOutput | undefined;
  /** Are the output's parts found by comparing contents, rather than from layers? */
  readonly isCompared: boolean;
  /** The parts that the output holds from an offset on, in such units, as for ImageJob. */
  readonly held: (from: number, unitBytes: number, sizeBytes: number) => Iterable<Held> | undefined;
}

/**
 * Opens the stack, and the output's base.
 * @throws CowError as openStack; `usage` where the output cannot lie over that, or over nothing
 */
export async function makePlan(
  files: OpenFiles,
  named: { readonly stack: StackSpec; readonly base: StackSpec | undefined },
  request: ConvertRequest,
  signal?: AbortSignal,
): Promise<Plan> {
  const to = writtenFormat(request.to);
  const alone = !named.base && (await loneLayer(files, named.stack, formatById(to.id), signal));
  if (alone) return alone;
  if (named.base && to.base === "none") throw new CowError("usage", `a ${to.id} image is complete and has no base`);
  const stack = await files.openStack(named.stack, request.force);
  const view = new LayeredImage(stack.base.name, stack.base, stack.layers);
  const common = { stack, view, base: stack.base, image: stack.device, layers: stack.layers };
  if (!named.base && to.base !== "required") {
    return {
      ...common,
      paths: stack.paths,
      height: stack.layers.length,
      below: undefined,
      isCompared: false,
      held: () => undefined,
    };
  }
  if (!named.base && stack.layers.length === 0) {
    throw new CowError("usage", `is an image, and a ${to.id} holds what differs from a base`, {
      file: named.stack.text,
      hints: ["--base STACK says from which; --to raw or qcow2 makes a whole image"],
    });
  }
  const bottom = named.stack.lower(0);
  const base = named.base && (await files.openStack(named.base, request.force));
  const height = base ? commonHeight(stack, base) : 0;
  const below: BelowOutput = base
    ? belowOutput(named.base, base.device, base.paths)
    : belowOutput(bottom, stack.base, bottom.files);
  const paths = [...new Set([...stack.paths, ...(base?.paths ?? [])])];
  if (height !== undefined) {
    const held = (from: number, unit: number, size: number) => widen(view.allocated(from, size, height), unit, size);
    return { ...common, paths, height, below, isCompared: false, held };
  }
  const other = base?.device ?? stack.base;
  const held = (from: number, unit: number, size: number) => differences(stack.device, other, unit, from, size);
  return { ...common, paths, height: stack.layers.length, below, isCompared: true, held };
}

/** The lowest layer that goes into the output, from 1: those that stay below it keep their base records. */
export function lowestJoined({ below, isCompared, height }: Plan): number {
  return below && !isCompared ? height + 1 : 1;
}

function belowOutput(spec: StackSpec | undefined, device: BlockDevice, paths: readonly string[]): BelowOutput {
  return { spec, name: device.name, sizeBytes: device.sizeBytes, device, paths };
}

/** A layer by itself, which says all of its base that another of its format has to: for another machine no base is needed. */
async function loneLayer(
  files: OpenFiles,
  { base: part, layers }: StackSpec,
  format: LayerFormat | undefined,
  signal: AbortSignal | undefined,
): Promise<Plan | undefined> {
  if (layers.length > 0 || !format?.recordsBase || (part.format !== undefined && part.format !== format))
    return undefined;
  const file = files.open(part.path, { lock: "shared" });
  if (detectFormat(file) !== format) return undefined;
  const readable = await format.readable(file, () => files.scratch(file.name), signal);
  const layer = format.openLayer(readable, { allowDirty: false });
  // Unallocated blocks are never read.
  const view = new LayeredImage(file.name, undefined, [layer]);
  return {
    stack: undefined,
    view,
    base: undefined,
    image: undefined,
    paths: [part.path],
    layers: [layer],
    height: 0,
    below: { spec: undefined, name: file.name, sizeBytes: layer.virtualSizeBytes, device: undefined, paths: [] },
    isCompared: false,
    held: (from, unit, size) => widen(view.allocated(from, size), unit, size),
  };
}
