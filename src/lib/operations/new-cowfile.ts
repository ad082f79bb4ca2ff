/**
 * Owns making a new cowfile and its base record, for every command that makes one over a base that it has open.
 */
import type { OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { formatFingerprint } from "../formats/cowfile/head.ts";
import { BLOCK_BYTES, type CowAbi } from "../formats/cowfile/layout.ts";
import type { CowfileWriter } from "../formats/cowfile/writer.ts";
import { claimOutput, type Overwrite } from "../output/claim.ts";
import { type CowfileJob, type WrittenCowfile, writeCowfile } from "../output/write-cowfile.ts";
import type { OpenFiles } from "./files.ts";
import type { IdentityMode } from "./identity/modes.ts";
import { QUICK, UNLIMITED } from "./identity/sampling.ts";
import { forgetOld, noteOrWarn, type TakenRecord, takeRecord } from "./identity/take.ts";

export interface NewCowfileJob extends Omit<CowfileJob, "target"> {
  readonly output: string;
  readonly allowed: Overwrite;
  /** The files of the base. */
  readonly basePaths: readonly string[];
  /** Every input. */
  readonly inputs: readonly string[];
  /** How much of the base the record covers; default `quick`. */
  readonly identity?: IdentityMode | undefined;
}

/** The part of every result about a new cowfile. */
export interface CowfileFacts {
  readonly abi: CowAbi;
  readonly rdo_blocks: number;
  readonly virtual_size: number;
  readonly fingerprint: string;
  readonly blocks_used: number;
}

export interface MadeCowfile {
  readonly facts: CowfileFacts;
  readonly writer: CowfileWriter;
  readonly record: { readonly recorded: boolean; readonly complete: boolean };
}

/**
 * Claims the output, and makes it: whole, or not at all.
 * @throws CowError `exists`, `usage`, `locked`, `no-space`, `io`, `interrupted`
 */
export async function makeCowfile(
  files: OpenFiles,
  job: NewCowfileJob,
  context: OperationContext,
): Promise<MadeCowfile> {
  const { output, allowed, inputs, base, basePaths, rdoBlocks, abi } = job;
  claimOutput(files, output, allowed, "cowfile");
  const at = { base, paths: basePaths, blocks: rdoBlocks };
  const taken = job.identity === "none" ? undefined : await takeIdentity(files, at, job.identity, context);
  const { writer, fingerprint } = await files.write(output, inputs, allowed, (target) =>
    fillCowfile(files, { ...job, target }, context),
  );
  const identity = { blocks: rdoBlocks, blockBytes: BLOCK_BYTES, fingerprint };
  const recorded = !!taken && noteOrWarn(files.storage, output, context, () => taken.write(output, identity));
  return {
    facts: cowfileFacts(abi, rdoBlocks, fingerprint, writer.blocksUsed),
    writer,
    record: { recorded, complete: recorded && (taken?.isComplete ?? false) },
  };
}

/** Writes a new cowfile, and removes the base record of an old one of that name. */
export async function fillCowfile(
  { storage }: OpenFiles,
  job: CowfileJob,
  context: OperationContext,
): Promise<WrittenCowfile> {
  const written = await writeCowfile(job, context);
  forgetOld(storage, job.target.name, context);
  return written;
}

export function cowfileFacts(abi: CowAbi, rdoBlocks: number, fingerprint: number, blocksUsed: number): CowfileFacts {
  return {
    abi,
    rdo_blocks: rdoBlocks,
    virtual_size: rdoBlocks * BLOCK_BYTES,
    fingerprint: formatFingerprint(fingerprint),
    blocks_used: blocksUsed,
  };
}

/** Reads the base before anything is created, so that an interruption leaves nothing. */
export async function takeIdentity(
  { storage }: OpenFiles,
  at: { readonly base: BlockDevice; readonly paths: readonly string[]; readonly blocks: number },
  identity: Exclude<IdentityMode, "none"> | undefined,
  context: OperationContext,
): Promise<TakenRecord> {
  const taken = await takeRecord(storage, { ...at, budget: identity === "full" ? UNLIMITED : QUICK }, context);
  if (!taken.isComplete) {
    const way = identity === undefined ? "" : " (--identity full records all data)";
    const message = `only samples were recorded: changes elsewhere will not be detected${way}`;
    context.onNotice?.({ severity: "note", file: at.base.name, message });
  }
  return taken;
}
