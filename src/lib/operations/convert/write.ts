/**
 * Owns running a conversion: the names that it claims, where it resumes, and the order in which its files appear: data,
 * the second file of formats that have two, the file that names both, the base record.
 */
import { interrupted, type OperationContext } from "../../context.ts";
import { CowError, shellWord } from "../../errors.ts";
import { claimOutput, mayReplace } from "../../output/claim.ts";
import { digestOf, giveNames, isUnderWay, lacksName, PartialOutput, wholeBefore } from "../../output/partial.ts";
import { cloneBase, type Pace, type Position, writeImage } from "../../output/write-image.ts";
import { type OpenFiles, refuseSameFile } from "../files.ts";
import { forgetOld } from "../identity/take.ts";
import { takeIdentity } from "../new-cowfile.ts";
import { heldOfRaw } from "../whole-image.ts";
import type { Output } from "./outputs.ts";
import type { Plan } from "./plan.ts";
import type { ConvertRequest } from "./request.ts";

const USUAL_PACE: Pace = { bytes: 8 * 2 ** 30, milliseconds: 15_000 };

/** Raised when the meaning of a note changes. */
const NOTE_VERSION = 1;

interface Asked {
  readonly stack: string;
  readonly output: string;
  readonly request: ConvertRequest;
  readonly plan: Plan;
  readonly made: Output;
}

/** A conversion whose outputs were claimed. */
export interface Job extends Asked {
  /** See digestOf. */
  readonly digest: string | undefined;
  readonly replace: boolean;
  /** All files with data, that of the image first: the output, but for formats of several files. */
  readonly outputs: readonly [main: string, ...beside: string[]];
  /** Where an earlier run of this conversion ended, if only names were missing. */
  readonly whole: Position | undefined;
}

export interface Done {
  readonly held: number;
  readonly size: number;
  readonly resumedAt: number | null;
}

/** Checks that all files may be made. @throws CowError as claimOutput */
export function claimOutputs(files: OpenFiles, asked: Asked): Job {
  const { storage } = files;
  const { stack, output, request, plan, made } = asked;
  const { force = false, replace, dryRun: _dryRun, ...meaning } = request;
  const isNamed = mayReplace({ replace }, output);
  const digest = digestOf(storage, plan.paths, { version: NOTE_VERSION, stack, ...meaning });
  const { several } = made;
  const outputs = [output + (several?.data ?? ""), ...(several ? [output + several.beside] : [])] as const;
  const whole = force || isNamed ? undefined : wholeBefore(storage, outputs, digest);
  const isOurs = several !== undefined && isUnderWay(storage, outputs[0], digest);
  // Files named by files of the stack are known only now.
  for (const path of new Set([output, ...outputs])) {
    refuseSameFile(storage, path, plan.paths);
    // A file that has its name already is its own.
    if (whole && !lacksName(storage, path)) continue;
    if (path === output) claimOutput(files, path, request, request.to);
    else claimOutput(files, path, { force, replace: isNamed || isOurs ? [path] : [] }, "raw");
  }
  return { ...asked, digest, replace: isNamed || isOurs || force, outputs, whole };
}

/** @param pace how often what is done is made durable and noted */
export async function writeOutputs(
  files: OpenFiles,
  job: Job,
  context: OperationContext,
  pace = USUAL_PACE,
): Promise<Done> {
  const { storage } = files;
  const { output, request, plan, made, digest, replace, outputs, whole } = job;
  const [main] = outputs;
  const { below } = plan;
  const { identity } = made;
  // Reads the base of a new cowfile before that is made, as `create` does.
  const taken =
    identity && below?.device
      ? await takeIdentity(files, { base: below.device, paths: below.paths, ...identity }, undefined, context)
      : undefined;
  const last = (): void => {
    if (made.several) writeText(files, output, made.several.text, plan, mayReplace(request, output));
    taken?.write(output, identity?.fingerprint ?? 0);
  };
  const { onNotice } = context;
  if (whole) {
    giveNames(storage, outputs, { replace, inputs: plan.paths, onNotice }, last);
    return { held: whole.held, size: storage.facts(main)?.sizeBytes ?? 0, resumedAt: whole.offset };
  }
  const partial = new PartialOutput(files, main, { digest, paths: plan.paths, onNotice });
  const { device, from } = partial;
  const stopped = (): CowError => {
    const how = partial.noted
      ? `${shellWord(partial.path)} holds what is done; the same command completes the conversion`
      : "nothing was created";
    return interrupted(output, how);
  };
  try {
    const isClone = from
      ? from.sink["clone"] === 1
      : !!made.format.isPlain && !!plan.base && cloneBase(plan.base, device);
    const { view } = plan;
    const { sizeBytes } = made;
    const writer = made.makeWriter(device, (suffix) => partial.beside(output + suffix), isClone);
    const start = from?.offset ?? 0;
    const held = isClone ? heldOfRaw(view, true, start) : plan.held(start, writer.unitBytes, sizeBytes);
    const image = { view, sizeBytes, held, writer, target: device, phase: "converting", stopped, from };
    const notes = { pace, save: (position: Position) => partial.note(position) };
    const copied = await writeImage({ ...image, notes }, context);
    const size = device.sizeBytes;
    if (identity) forgetOld(storage, output, context);
    partial.commit(replace, { offset: sizeBytes, held: copied.held, copied: 0, sink: {} }, last);
    return { held: copied.held, size, resumedAt: from?.offset ?? null };
  } catch (error) {
    partial.abandon(error instanceof CowError && ["interrupted", "no-space", "io"].includes(error.code));
    throw error;
  }
}

/** The file that completes the output comes last. */
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
