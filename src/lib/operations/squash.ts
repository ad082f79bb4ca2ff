/**
 * Owns `squash`: neighbouring layers of a stack made one, a new cowfile over what lies below them. The layers stay as they
 * are.
 */
import { widen } from "../bytes/extent.ts";
import type { OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { CowError } from "../errors.ts";
import { formatFingerprint } from "../formats/cowfile/head.ts";
import { BLOCK_BYTES, type CowAbi } from "../formats/cowfile/layout.ts";
import { allocatedBy, LayeredImage } from "../formats/layered-image.ts";
import { claimOutput, type Overwrite } from "../output/claim.ts";
import { writeCowfile } from "../output/write-cowfile.ts";
import type { Stack } from "../stack/open.ts";
import { Overlay } from "../stack/overlay.ts";
import { requireSameShape, requireUsableSize, takeIdentity } from "./create.ts";
import { OpenFiles, refusePending, refuseSameFile } from "./files.ts";
import { forgetOld, noteOrWarn } from "./identity/take.ts";
import { noticeUnmarkedOf } from "./merge/doubts.ts";

export interface SquashRequest extends Overwrite {
  /** The lowest layer, from 1; default the first. */
  readonly from?: number | undefined;
  /** The highest layer; default the last. */
  readonly to?: number | undefined;
  readonly abi?: CowAbi;
}

export interface SquashResult {
  readonly stack: string;
  readonly output: string;
  readonly from: number;
  readonly to: number;
  /** The stack that the new cowfile is over. */
  readonly over: string;
  readonly abi: CowAbi;
  readonly rdo_blocks: number;
  readonly virtual_size: number;
  readonly fingerprint: string;
  readonly blocks_used: number;
}

/**
 * Makes layers FROM to TO of a stack one cowfile that holds what they hold, over what lies below FROM. It appears whole, or
 * not at all.
 *
 * @throws CowError `usage`, `unsuitable` (a layer that changes the size, more blocks than the ABI can describe), `exists`,
 *   and as for opening a stack; `no-space`, `io`, `interrupted`
 */
export async function squash(
  text: string,
  output: string,
  request: SquashRequest = {},
  context: OperationContext = {},
): Promise<SquashResult> {
  const abi = request.abi ?? "le64";
  return OpenFiles.during(context, async (files) => {
    const spec = files.stackSpec(text);
    const { from, to } = rangeOf(spec.layers.length, request);
    refusePending(files.storage, spec, [output], request.force);
    const stack = await files.openStack(spec.lower(to), request.force);
    refuseSameFile(files.storage, output, stack.paths);
    const base = belowLayer(stack, from);
    const rdoBlocks = requireUsableSize(base, abi, context);
    const end = rdoBlocks * BLOCK_BYTES;
    requireSameShape(base, stack.device, rdoBlocks);
    await noticeUnmarkedOf(stack.layers.slice(from - 1), context, "squashed");
    claimOutput(files, output, request, "cowfile");
    const paths = stack.pathsOf(from);
    const taken = await takeIdentity(files, { base, paths, blocks: rdoBlocks }, undefined, context);
    const made = await files.write(output, stack.paths, request, async (target) => {
      const held = widen(allocatedBy(stack.layers.slice(from - 1), 0, end), BLOCK_BYTES, end);
      const view = new LayeredImage(stack.base.name, stack.base, stack.layers);
      const written = await writeCowfile({ target, abi, base, rdoBlocks, view, held, phase: "squashing" }, context);
      forgetOld(files.storage, output, context);
      return written;
    });
    const { writer, fingerprint } = made;
    const identity = { blocks: rdoBlocks, blockBytes: BLOCK_BYTES, fingerprint };
    if (taken) noteOrWarn(files.storage, output, context, () => taken.write(output, identity));
    return {
      stack: text,
      output,
      from,
      to,
      over: spec.lower(from - 1).text,
      abi,
      rdo_blocks: rdoBlocks,
      virtual_size: end,
      fingerprint: formatFingerprint(fingerprint),
      blocks_used: writer.blocksUsed,
    };
  });
}

function rangeOf(
  count: number,
  { from = 1, to = count }: SquashRequest,
): { readonly from: number; readonly to: number } {
  if (count < 1) throw new CowError("usage", "a base without layers has nothing to be squashed");
  const isRange = Number.isInteger(from) && Number.isInteger(to) && from >= 1 && from <= to && to <= count;
  if (!isRange) throw new CowError("usage", `layers ${from} to ${to} are no range: the stack has layers 1 to ${count}`);
  return { from, to };
}

/** What lies below a layer, counted from 1. */
export function belowLayer({ base, layers }: Stack, number: number): BlockDevice {
  return number === 1 ? base : new Overlay(base.name, base, layers.slice(0, number - 1));
}
