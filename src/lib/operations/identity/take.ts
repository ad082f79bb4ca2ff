/**
 * Owns recording what a base is: looked at before its cowfile appears, and written beside that afterwards.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import type { OperationContext } from "../../context.ts";
import type { Storage } from "../../device/storage.ts";
import { CowError } from "../../errors.ts";
import type { BaseIdentity } from "../../formats/format.ts";
import { removeSidecar, settledTimes, sidecarPath, writeSidecar } from "../../notes/sidecar.ts";
import { recordContent } from "./content.ts";
import type { Budget } from "./sampling.ts";

/** A base as it was looked at, to be written beside its cowfile. */
export interface TakenRecord {
  /** All of it was looked at. */
  readonly isComplete: boolean;
  /** @throws CowError where the note cannot be written */
  write(cowfile: string, identity: BaseIdentity): void;
}

/**
 * Looks at a base.
 *
 * @param at.paths the files that it is made of, bottom to top
 * @throws CowError `io`, `interrupted`
 */
export async function takeRecord(
  storage: Storage,
  at: {
    readonly base: ByteSource;
    readonly paths: readonly string[];
    readonly blocks: number;
    readonly budget: Budget;
  },
  context: OperationContext,
): Promise<TakenRecord> {
  // Taken first: who writes to the base meanwhile changes them.
  const files = settledTimes(storage, at.paths);
  const recorded = new Date().toISOString();
  const content = await recordContent(at.base, at.blocks, at.budget, context);
  return {
    isComplete: content.unread.length === 0,
    write: (cowfile, identity) =>
      writeSidecar(storage, cowfile, {
        recorded,
        cowfile: identity,
        base_size: at.base.sizeBytes,
        files,
        hash: "sha256-128",
        merged: false,
        ...content,
      }),
  };
}

/** Runs `work` on the note beside a cowfile: where that fails, the cowfile is as good as without, and a warning says so. */
export function noteOrWarn(storage: Storage, cowfile: string, context: OperationContext, work: () => void): boolean {
  try {
    work();
    return true;
  } catch (error) {
    if (!(error instanceof CowError)) throw error;
    context.onNotice?.({
      severity: "warning",
      file: error.file ?? sidecarPath(storage, cowfile),
      message: `${error.message}: the base record of ${cowfile} could not be written`,
    });
    return false;
  }
}

/** An old note is about another cowfile than the one that is to appear in its place. */
export function forgetOld(storage: Storage, cowfile: string, context: OperationContext): void {
  noteOrWarn(storage, cowfile, context, () => removeSidecar(storage, cowfile));
}
