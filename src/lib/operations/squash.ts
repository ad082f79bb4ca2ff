/**
 * Owns `squash`: combines neighbouring layers of a stack into a new cowfile over the same backing. The layers stay
 * unchanged.
 */
import { widen } from "../bytes/extent.ts";
import type { OperationContext } from "../context.ts";
import { CowError } from "../errors.ts";
import { BLOCK_BYTES, type CowAbi } from "../formats/cowfile/layout.ts";
import { allocatedBy, LayeredImage } from "../formats/layered-image.ts";
import type { Overwrite } from "../output/claim.ts";
import type { Stack } from "../stack/open.ts";
import { belowLayer } from "../stack/overlay.ts";
import type { StackSpec } from "../stack/spec.ts";
import { OpenFiles, refusePending, refuseSameFile } from "./files.ts";
import { requireFit } from "./fit.ts";
import { requireSameBases } from "./identity/stack-bases.ts";
import { noticeUnmarkedOf } from "./merge/doubts.ts";
import { type CowfileFacts, type CowfileJob, makeCowfile } from "./new-cowfile.ts";

/** What `squash` is asked for. */
export interface SquashRequest extends Overwrite {
  /** The lowest layer, from 1; default the first. */
  readonly from?: number | undefined;
  /** The highest layer; default the last. */
  readonly to?: number | undefined;
  readonly abi?: CowAbi;
}

/** The cowfile that `squash` made. */
export interface SquashResult extends CowfileFacts {
  readonly stack: string;
  readonly output: string;
  readonly from: number;
  readonly to: number;
  /** The stack that the new cowfile is over. */
  readonly over: string;
}

/**
 * Combines layers FROM to TO of a stack into one cowfile with all of their blocks, over the backing of FROM. It appears
 * whole, or not at all.
 *
 * @throws CowError `usage`, `unsuitable` (a layer that changes the size, more blocks than the ABI can describe),
 * `wrong-base` (also for a base that was changed where it shows), `exists`, and as for opening a stack; `no-space`, `io`, `interrupted`
 */
export async function squash(
  text: string,
  output: string,
  request: SquashRequest = {},
  context: OperationContext = {},
): Promise<SquashResult> {
  return OpenFiles.during(context, (files) => {
    const spec = files.stackSpec(text);
    return squashLayers(files, spec, output, { ...request, ...rangeOf(spec.layers.length, request) }, request, context);
  });
}

/** @param allowed what the output may replace @throws CowError as squash() */
export async function squashLayers(
  files: OpenFiles,
  spec: StackSpec,
  output: string,
  { from, to, abi = "le64", force }: LayersRange & Pick<SquashRequest, "abi" | "force">,
  allowed: Overwrite,
  context: OperationContext,
): Promise<SquashResult> {
  refusePending(files.storage, spec, [output], force);
  const stack = await files.openStack(spec.lower(to), force);
  refuseSameFile(files.storage, output, stack.paths);
  const joined = joinedLayers(stack, from, abi, context);
  const way = force ? undefined : "--force squashes all the same";
  await requireSameBases(files, stack, { from, way }, context);
  await noticeUnmarkedOf(stack.layers.slice(from - 1), context, "squashed");
  const job = { ...joined, basePaths: stack.pathsOf(from), inputs: stack.paths, output, allowed };
  const { facts } = await makeCowfile(files, job, context);
  return { stack: spec.text, output, from, to, over: spec.lower(from - 1).text, ...facts };
}

/**
 * What a cowfile is made of that has all blocks of layer FROM of an open stack and of those above it.
 * @throws CowError `unsuitable` for a layer that changes the size, and for more blocks than the ABI can describe
 */
export function joinedLayers(
  { base: bottom, layers, device }: Pick<Stack, "base" | "layers" | "device">,
  from: number,
  abi: CowAbi,
  context: OperationContext,
): Omit<CowfileJob, "target"> {
  const base = belowLayer({ base: bottom, layers }, from);
  const rdoBlocks = requireFit(base, device, abi, context);
  const end = rdoBlocks * BLOCK_BYTES;
  const view = new LayeredImage(bottom.name, bottom, layers);
  const held = widen(allocatedBy(layers.slice(from - 1), 0, end), BLOCK_BYTES, end);
  return { base, rdoBlocks, abi, view, held, phase: "squashing" };
}

interface LayersRange {
  readonly from: number;
  readonly to: number;
}

function rangeOf(count: number, { from = 1, to = count }: SquashRequest): LayersRange {
  if (count < 1) throw new CowError("usage", "a base without layers has nothing to be squashed");
  const isRange = Number.isInteger(from) && Number.isInteger(to) && from >= 1 && from <= to && to <= count;
  if (!isRange) throw new CowError("usage", `layers ${from} to ${to} are no range: the stack has layers 1 to ${count}`);
  return { from, to };
}
