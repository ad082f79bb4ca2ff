/**
 * Owns judging the base of a cowfile that an operation has open, in any form.
 */
import type { OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { CowError } from "../../errors.ts";
import type { Layer } from "../../formats/format.ts";
import { requireFormat } from "../../formats/registry.ts";
import type { Stack } from "../../stack/open.ts";
import type { OpenFiles } from "../files.ts";
import { type BaseJudgement, judgeRecorded, type Question } from "./judge.ts";

export interface BaseAnswer extends BaseJudgement {
  /** Where the image begins in the cowfile; 0 if unknown. */
  readonly dataOffsetBytes: number;
}

/**
 * Judges `stack` by the base record beside the cowfile.
 *
 * @param how.always look, whatever the times of the files say
 * @throws CowError as identify does; `io`, `interrupted`
 */
export async function askAboutBase(
  files: OpenFiles,
  at: { readonly cow: BlockDevice; readonly cowfile: string; readonly stack: Pick<Stack, "device" | "paths"> },
  how: Pick<Question, "always" | "budget" | "compare">,
  context: OperationContext,
): Promise<BaseAnswer> {
  const { cow, cowfile, stack } = at;
  let opened: Layer | undefined;
  const layer = async (): Promise<Layer | undefined> => {
    opened = await openAnyhow(files, cow, context.signal);
    return opened;
  };
  const identity = await requireFormat(cow).identify(cow, { signal: context.signal });
  const question = { base: stack.device, paths: stack.paths, cowfile, identity, layer, ...how };
  const judgement = await judgeRecorded(files.storage, question, context);
  return { ...judgement, dataOffsetBytes: opened?.locate?.(0) ?? 0 };
}

/** A cowfile as a layer, dirty or packed; undefined where it is too damaged to hide anything. */
async function openAnyhow(
  files: OpenFiles,
  cow: BlockDevice,
  signal: AbortSignal | undefined,
): Promise<Layer | undefined> {
  const format = requireFormat(cow);
  try {
    const readable = await format.readable(cow, () => files.scratch(cow.name), signal);
    return format.openLayer(readable, { allowDirty: true });
  } catch (error) {
    if (error instanceof CowError && error.code !== "interrupted") return undefined;
    throw error;
  }
}
