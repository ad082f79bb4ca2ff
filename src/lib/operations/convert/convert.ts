/**
 * Owns `convert`: a stack becomes a file of another format. Inputs are only read; the output appears whole, or not at all,
 * and an interrupted conversion is gone on with by the same command.
 */
import { interrupted, type OperationContext } from "../../context.ts";
import { CowError, shellWord } from "../../errors.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { claimOutput, mayReplace } from "../../output/claim.ts";
import { digestOf, giveNames, isUnderWay, lacksName, PartialOutput, wholeBefore } from "../../output/partial.ts";
import { cloneBase, type Held, type Pace, type Position, writeImage } from "../../output/write-image.ts";
import type { StackSpec } from "../../stack/spec.ts";
import { OpenFiles, refusePending, refuseSameFile } from "../files.ts";
import { QUICK } from "../identity/sampling.ts";
import { forgetOld, noteOrWarn, type TakenRecord, takeRecord } from "../identity/take.ts";
import { noticeUnmarkedOf } from "../merge/doubts.ts";
import { heldOfRaw } from "../whole-image.ts";
import { formatLosses, loss, qcow2Losses } from "./losses.ts";
import { writeDry } from "./measure.ts";
import { makeOutput, type Output } from "./outputs.ts";
import { makePlan, type Plan } from "./plan.ts";
import type { ConvertRequest, ConvertResult, Loss } from "./request.ts";

const USUAL_PACE: Pace = { bytes: 8 * 2 ** 30, milliseconds: 15_000 };

/** Raised when what a note says is no longer how files are made. */
const NOTE_VERSION = 1;

interface Asked {
  readonly stack: string;
  readonly output: string;
  readonly request: ConvertRequest;
}

interface Job extends Asked {
  /** Where the data goes: the output, but for formats of several files. */
  readonly main: string;
  /** See digestOf. */
  readonly digest: string | undefined;
  readonly replace: boolean;
  /** All files with data, `main` first. */
  readonly outputs: readonly string[];
  /** Where an earlier run of this conversion ended, if only names were left to be given. */
  readonly whole: Position | undefined;
}

/**
 * Converts `stack` into `output`.
 *
 * @param pace how often what is done is made durable and noted, so that a killed conversion can be gone on with
 * @throws CowError as openStack for the inputs; `usage`, `unsuitable`, `exists`, `locked`, `no-space`, `io`; `interrupted`
 */
export async function convert(
  stack: string,
  output: string,
  request: ConvertRequest,
  context: OperationContext = {},
  pace: Pace = USUAL_PACE,
): Promise<ConvertResult> {
  return OpenFiles.during(context, async (files) => {
    const spec = files.stackSpec(stack);
    const base = files.stackSpec(request.base);
    refuseSameFile(files.storage, output, [...spec.files, ...(base?.files ?? [])]);
    refusePending(files.storage, spec, [output], request.force);
    const plan = await makePlan(files, { stack: spec, base }, request, context.signal);
    await noticeUnmarkedOf(plan.layers, context, "converted");
    const made = await makeOutput({ files, plan, output, request, context });
    const job = { stack, output, request, ...claimAll(files, { stack, output, request }, plan, made) };
    const work = request.dryRun ? dryRun(output, plan, made, context) : write(files, job, plan, made, context, pace);
    const { held, size, resumedAt } = await work;
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

/** Makes sure that everything that is to be made may be. */
function claimAll(
  files: OpenFiles,
  { stack, output, request }: Asked,
  plan: Plan,
  made: Output,
): Omit<Job, keyof Asked> {
  const { force, replace, dryRun: _dryRun, ...asked } = request;
  const isNamed = mayReplace({ replace }, output);
  const digest = digestOf(files.storage, plan.paths, { version: NOTE_VERSION, stack, ...asked });
  const { data, beside } = made.several ?? { data: "", beside: undefined };
  const main = output + data;
  const outputs = beside === undefined ? [main] : [main, output + beside];
  const whole = force || isNamed ? undefined : wholeBefore(files.storage, outputs, digest);
  const isOurs = made.several !== undefined && isUnderWay(files.storage, main, digest);
  const may = isNamed || isOurs || (force ?? false);
  // What files of the stack name themselves is known only now.
  for (const path of new Set([output, ...outputs])) {
    refuseSameFile(files.storage, path, plan.paths);
    // What has its name already is its own.
    if (whole && !lacksName(files.storage, path)) continue;
    if (path === output) claimOutput(files, path, request, request.to);
    else claimOutput(files, path, { force, replace: isNamed || isOurs ? [path] : [] }, "raw");
  }
  return { main, digest, replace: may, outputs, whole };
}

interface Done {
  readonly held: number;
  readonly size: number;
  readonly resumedAt: number | null;
}

async function write(
  files: OpenFiles,
  { output, request, main, digest, replace, outputs, whole }: Job,
  plan: Plan,
  made: Output,
  context: OperationContext,
  pace: Pace,
): Promise<Done> {
  const { storage } = files;
  const taken = await takeIdentity(files, plan, made, context);
  const last = (): void => {
    if (made.several) writeText(files, output, made.several.text, plan, mayReplace(request, output));
    if (!taken || !made.identity) return;
    const identity = { ...made.identity, blockBytes: BLOCK_BYTES };
    noteOrWarn(storage, output, context, () => taken.write(output, identity));
  };
  const madeOf = { inputs: plan.paths, onNotice: context.onNotice };
  if (whole) {
    giveNames(storage, outputs, { replace, ...madeOf }, last);
    return { held: whole.held, size: storage.facts(main)?.sizeBytes ?? 0, resumedAt: whole.offset };
  }
  const partial = new PartialOutput(files, main, { digest, paths: plan.paths, onNotice: context.onNotice });
  const stopped = (): CowError => {
    const how = partial.noted
      ? `${shellWord(partial.path)} holds what is done; the same command completes the conversion`
      : "nothing was created";
    return interrupted(output, how);
  };
  let isDone = false;
  let keep = false;
  try {
    const { device, from } = partial;
    const isClone = from
      ? from.sink["clone"] === 1
      : request.to === "raw" && !!plan.base && cloneBase(plan.base, device);
    const writer = made.makeWriter(device, (suffix) => partial.beside(output + suffix), isClone);
    const copied = await writeImage(
      {
        ...jobOf(plan, made),
        held: heldOf(plan, made, writer.unitBytes, from?.offset, isClone),
        writer,
        target: device,
        stopped,
        from,
        notes: { pace, save: (position) => partial.note(position) },
      },
      context,
    );
    const size = partial.device.sizeBytes;
    if (request.to === "cowfile") forgetOld(storage, output, context);
    partial.commit(replace, { offset: made.sizeBytes, held: copied.held, copied: 0, sink: {} }, last);
    isDone = true;
    return { held: copied.held, size, resumedAt: partial.from?.offset ?? null };
  } catch (error) {
    keep = error instanceof CowError && ["interrupted", "no-space", "io"].includes(error.code);
    throw error;
  } finally {
    if (!isDone) partial.abandon(keep);
  }
}

/** The file that makes others an output comes last. */
function writeText(files: OpenFiles, path: string, text: string, plan: Plan, replace: boolean): void {
  if (files.storage.facts(path)?.sizeBytes === text.length) {
    const there = Buffer.alloc(text.length);
    if (files.open(path, { lock: "none" }).read(there, 0) === there.length && there.equals(Buffer.from(text))) return;
  }
  const pending = files.storage.create(path, { inputs: plan.paths });
  try {
    pending.device.write(Buffer.from(text), 0);
    pending.commit({ replace });
  } finally {
    pending.abandon();
  }
}

/** The same without a file: what it would be. */
async function dryRun(output: string, plan: Plan, made: Output, context: OperationContext): Promise<Done> {
  const { held, main } = await writeDry(output, plan, made, context);
  return { held, size: main.sizeBytes, resumedAt: null };
}

function jobOf({ view }: Plan, { sizeBytes }: Output) {
  return { view, sizeBytes, phase: "converting" };
}

/** What the output is to hold from an offset on. */
function heldOf(plan: Plan, { sizeBytes }: Output, unitBytes: number, from = 0, isClone = false): Iterable<Held> {
  return isClone ? heldOfRaw(plan.view, true, from) : plan.held(from, unitBytes, sizeBytes);
}

/** Looks at the base of a new cowfile before that is made, as `create` does. */
async function takeIdentity(
  { storage }: OpenFiles,
  { below }: Plan,
  { identity }: Output,
  context: OperationContext,
): Promise<TakenRecord | undefined> {
  if (!identity || !below?.device) return undefined;
  return takeRecord(
    storage,
    { base: below.device, paths: below.paths, blocks: identity.blocks, budget: QUICK },
    context,
  );
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
  yield* formatLosses(plan.layers, request.to, plan.below !== undefined);
  yield* made.losses;
  if (plan.below && !plan.isCompared) {
    let exact = 0;
    for (const { length } of plan.view.allocated(0, made.sizeBytes, plan.height)) exact += length;
    if (held > exact) {
      const more = `${held - exact} bytes more than the layers do, in units of ${made.granularityBytes}`;
      yield loss("extents-rounded", `the output holds ${more}`);
    }
  }
  for (const { path, format } of spec.parts) {
    if (format === undefined || (format !== "raw" && format.id === "qcow2"))
      yield* qcow2Losses(files.open(path, { lock: "shared" }));
  }
}
