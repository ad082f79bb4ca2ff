/**
 * Owns `measure`: the size of a file of another format. It runs the writers of `convert` on a target that keeps
 * nothing, so that both always agree.
 */
import { interrupted, makePause, type OperationContext } from "../../context.ts";
import { DryTarget } from "../../output/dry-target.ts";
import { writeImage } from "../../output/write-image.ts";
import { OpenFiles } from "../files.ts";
import { requireSameBases } from "../identity/stack-bases.ts";
import { makeOutput, type Output } from "./outputs.ts";
import { lowestJoined, makePlan, type Plan } from "./plan.ts";
import type { ConvertFormat, ConvertRequest } from "./request.ts";

/** The writer is asked in parts of about this size, so that it can be stopped. */
const STEP_BYTES = 64 << 20;
const OUTPUT = "OUTPUT";

/** What `measure` is asked for: as `convert`, without what concerns the file. */
export type MeasureRequest = Pick<ConvertRequest, "to" | "base" | "chunkBytes" | "clusterBytes" | "abi">;

/** How large a file of another format would be. */
export interface MeasureResult {
  readonly stack: string;
  readonly to: ConvertFormat;
  /** The base of the output; null for a whole image. */
  readonly base: string | null;
  readonly virtual_size: number;
  /** The length of the file that `convert` would write, holes included; of a dm-cow stack, of its two devices. */
  readonly required: number;
  /** The same if the file held every part of the image. */
  readonly fully_allocated: number;
  /** The space that it would take on disk, in pages of 4 KiB. */
  readonly allocated_size: number;
  /** Bytes of the image that the file would hold. */
  readonly bytes_held: number;
  /** The unit in which it would hold them; null for a raw image. */
  readonly granularity: number | null;
}

/**
 * Measures what `convert` with the same request would write. Reads the stack, and writes nothing.
 *
 * @throws CowError as convert() for the inputs and the request; `interrupted`
 */
export async function measure(
  stack: string,
  request: MeasureRequest,
  context: OperationContext = {},
): Promise<MeasureResult> {
  return OpenFiles.during(context, async (files) => {
    const named = { stack: files.stackSpec(stack), base: files.stackSpec(request.base) };
    const plan = await makePlan(files, named, request, context.signal);
    if (plan.stack) await requireSameBases(files, plan.stack, { from: lowestJoined(plan), way: undefined }, context);
    const made = await makeOutput({ files, plan, output: OUTPUT, request, context });
    const { held, main, beside } = await writeDry(OUTPUT, plan, made, context);
    return {
      stack,
      to: request.to,
      base: plan.below?.spec?.text ?? null,
      virtual_size: made.virtualSizeBytes,
      required: lengthOf([main, ...beside]),
      fully_allocated: await fullSize(made, context),
      allocated_size: [main, ...beside].reduce((total, { allocatedBytes }) => total + allocatedBytes, 0),
      bytes_held: held,
      granularity: made.granularityBytes,
    };
  });
}

interface Written {
  readonly held: number;
  readonly main: DryTarget;
  readonly beside: readonly DryTarget[];
}

/** Writes an output without a file. */
export async function writeDry(output: string, plan: Plan, made: Output, context: OperationContext): Promise<Written> {
  const { main, beside, writer } = dryFiles(output, made);
  const stopped = (): Error => interrupted(output, "nothing was created");
  const job = { view: plan.view, sizeBytes: made.sizeBytes, writer, target: main, phase: "converting", stopped };
  const { held } = await writeImage({ ...job, held: plan.held(0, writer.unitBytes, made.sizeBytes) }, context);
  return { held, main, beside };
}

function dryFiles(output: string, made: Output) {
  const main = new DryTarget(output);
  const beside: DryTarget[] = [];
  const writer = made.makeWriter(
    main,
    (suffix) => {
      const target = new DryTarget(output + suffix);
      beside.push(target);
      return target;
    },
    false,
  );
  return { main, beside, writer };
}

/** The length of the files if they held all of the image. */
async function fullSize(made: Output, { signal }: OperationContext): Promise<number> {
  const { main, beside, writer } = dryFiles(OUTPUT, made);
  const pause = makePause(signal, () => interrupted(OUTPUT, "nothing was changed"));
  const step = Math.ceil(STEP_BYTES / writer.unitBytes) * writer.unitBytes;
  for (let at = 0; at < made.sizeBytes; at += step) {
    for (const _ of writer.data(at, Math.min(step, made.sizeBytes - at)));
    await pause();
  }
  writer.finish();
  return lengthOf([main, ...beside]);
}

function lengthOf(targets: readonly DryTarget[]): number {
  return targets.reduce((total, { sizeBytes }) => total + sizeBytes, 0);
}
