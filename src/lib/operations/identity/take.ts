/**
 * Owns making base records: the base is read before its cowfile appears, and the record is written afterwards.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import type { OperationContext } from "../../context.ts";
import type { Storage } from "../../device/storage.ts";
import { CowError } from "../../errors.ts";
import type { BaseIdentity } from "../../formats/format.ts";
import { removeSidecar, settledTimes, sidecarPath, writeSidecar } from "../../notes/sidecar.ts";
import { recordContent } from "./content.ts";
import type { Budget } from "./sampling.ts";

/** A base that was read, to be recorded beside its cowfile. */
export interface TakenRecord {
  /** All of the base was read. */
  readonly isComplete: boolean;
  /** @throws CowError where the note cannot be written */
  write(cowfile: string, identity: BaseIdentity): void;
}

/**
 * Reads a base.
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
  // Taken first: a later write to the base changes them.
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

/** Runs `work` on the record beside a cowfile: if it fails, a warning says so, and the cowfile works without one. */
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

/** An old record is about another cowfile than the one that will replace it. */
export function forgetOld(storage: Storage, cowfile: string, context: OperationContext): void {
  noteOrWarn(storage, cowfile, context, () => removeSidecar(storage, cowfile));
}
