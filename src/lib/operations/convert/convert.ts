/**
 * Owns `convert`: a stack becomes a file of another format. Inputs are only read; the output appears whole, or not at all,
 * and the same command resumes an interrupted conversion.
 */
import type { OperationContext } from "../../context.ts";
import { type Loss, loss } from "../../formats/losses.ts";
import { detectFormat, formatById } from "../../formats/registry.ts";
import type { Pace } from "../../output/write-image.ts";
import type { StackSpec } from "../../stack/spec.ts";
import { OpenFiles, refusePending, refuseSameFile } from "../files.ts";
import { type Asked, requireSameBases } from "../identity/stack-bases.ts";
import { noticeUnmarkedOf } from "../merge/doubts.ts";
import { writeDry } from "./measure.ts";
import { makeOutput, type Output } from "./outputs.ts";
import { lowestJoined, makePlan, type Plan } from "./plan.ts";
import type { ConvertRequest, ConvertResult } from "./request.ts";
import { claimOutputs, type Done, writeOutputs } from "./write.ts";

/**
 * Converts `stack` into `output`.
 *
 * @param pace how often progress is made durable and noted, so that a killed conversion can be resumed
 * @throws CowError as openStack for the inputs; `usage`, `unsuitable`, `exists`, `locked`, `no-space`, `io`; `interrupted`
 */
export async function convert(
  stack: string,
  output: string,
  request: ConvertRequest,
  context: OperationContext = {},
  pace?: Pace,
): Promise<ConvertResult> {
  return OpenFiles.during(context, async (files) => {
    const spec = files.stackSpec(stack);
    const base = files.stackSpec(request.base);
    refuseSameFile(files.storage, output, [...spec.files, ...(base?.files ?? [])]);
    refusePending(files.storage, spec, [output], request.force);
    const plan = await makePlan(files, { stack: spec, base }, request, context.signal);
    if (plan.stack) await requireSameBases(files, plan.stack, askedOf(plan, request), context);
    await noticeUnmarkedOf(plan.layers, context, "converted");
    const made = await makeOutput({ files, plan, output, request, context });
    const job = claimOutputs(files, { stack, output, request, plan, made });
    const { held, size, resumedAt } = await (request.dryRun
      ? dryRun(output, plan, made, context)
      : writeOutputs(files, job, context, pace));
    return {
      stack,
      output,
      to: request.to,
      base: plan.below?.spec?.text ?? null,
      virtual_size: made.virtualSizeBytes,
      output_size: size,
      bytes_held: held,
      granularity: made.granularityBytes,
      losses: [...lossesOf(files, spec, request, plan, made, held)],
      dry_run: request.dryRun ?? false,
      resumed_at: resumedAt,
    };
  });
}

/** A cowfile gets a base record; for other outputs a warning is enough. */
function askedOf(plan: Plan, { to, force }: ConvertRequest): Asked {
  return {
    from: lowestJoined(plan),
    way: formatById(to)?.recordsBase && !force ? "--force converts all the same" : undefined,
  };
}

/** The same without a file: a dry run. */
async function dryRun(output: string, plan: Plan, made: Output, context: OperationContext): Promise<Done> {
  const { held, main } = await writeDry(output, plan, made, context);
  return { held, size: main.sizeBytes, resumedAt: null };
}

function* lossesOf(
  files: OpenFiles,
  spec: StackSpec,
  request: ConvertRequest,
  plan: Plan,
  made: Output,
  held: number,
): Generator<Loss> {
  const joined = plan.layers.length - (plan.below && !plan.isCompared ? plan.height : 0);
  if (!request.flatten && (joined > 1 || (joined === 1 && !plan.below)))
    yield loss("layers-joined", plan.below ? `${joined} layers became one` : "layers and base became one image");
  if (plan.below && !made.identity && plan.layers.some(({ base }) => base.fingerprint !== undefined))
    yield loss("base-identity", `a ${request.to} layer does not record size and fingerprint of the base`);
  const all = [...lossesOfFiles(files, spec)];
  yield* all.filter(({ message }, i) => all.findIndex((other) => other.message === message) === i);
  yield* made.losses;
  if (plan.below && !plan.isCompared) {
    let exact = 0;
    for (const { length } of plan.view.allocated(0, made.sizeBytes, plan.height)) exact += length;
    if (held > exact) {
      const more = `${held - exact} bytes more than the layers do, in units of ${made.granularityBytes}`;
      yield loss("extents-rounded", `the output holds ${more}`);
    }
  }
}

/** What the stack's files have that only their formats can express. */
function* lossesOfFiles(files: OpenFiles, { parts }: StackSpec): Generator<Loss> {
  for (const { path, format } of parts) {
    if (format === "raw") continue;
    const file = files.open(path, { lock: "shared" });
    yield* (format ?? detectFormat(file))?.losses?.(file) ?? [];
  }
}
