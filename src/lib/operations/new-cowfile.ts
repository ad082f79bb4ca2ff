/**
 * Owns making a new cowfile and its base record, for every command that makes one over a base that it has open.
 */
import { interrupted, type OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { takeFingerprint } from "../formats/cowfile/fingerprint.ts";
import { formatFingerprint } from "../formats/cowfile/head.ts";
import { BLOCK_BYTES, type CowAbi } from "../formats/cowfile/layout.ts";
import { CowfileWriter } from "../formats/cowfile/writer.ts";
import { claimOutput, type Overwrite } from "../output/claim.ts";
import { type Held, type ImageJob, writeImage } from "../output/write-image.ts";
import type { OpenFiles } from "./files.ts";
import type { IdentityMode } from "./identity/modes.ts";
import { QUICK, UNLIMITED } from "./identity/sampling.ts";
import { forgetOld, noteOrWarn, takeRecord } from "./identity/take.ts";

export interface CowfileJob extends Pick<ImageJob, "view" | "phase"> {
  /** An empty file. */
  readonly target: BlockDevice;
  readonly abi: CowAbi;
  /** The base of the cowfile. */
  readonly base: BlockDevice;
  readonly rdoBlocks: number;
  /** Blocks of the base, where the cowfile is of another size. */
  readonly baseBlocks?: number | undefined;
  /** The parts to allocate, ascending, in whole blocks. */
  readonly held: Iterable<Held>;
  /** As for ImageJob; by default it says that nothing was created. */
  readonly stopped?: ImageJob["stopped"];
}

/** The facts about a new cowfile. */
export interface WrittenCowfile {
  readonly writer: CowfileWriter;
  readonly fingerprint: number;
}

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
  claimOutput(files, job.output, job.allowed, "cowfile");
  return makeClaimed(files, job, context);
}

/** The same under a name that was claimed. */
export async function makeClaimed(
  files: OpenFiles,
  job: NewCowfileJob,
  context: OperationContext,
): Promise<MadeCowfile> {
  const { output, allowed, inputs, base, basePaths, rdoBlocks, baseBlocks = rdoBlocks, abi } = job;
  const at = { base, paths: basePaths, blocks: baseBlocks };
  const taken = job.identity === "none" ? undefined : await takeIdentity(files, at, job.identity, context);
  const { writer, fingerprint } = await files.write(output, inputs, allowed, (target) =>
    fillCowfile(files, { ...job, target }, context),
  );
  const recorded = taken?.write(output, fingerprint) ?? false;
  return {
    facts: cowfileFacts(abi, rdoBlocks, fingerprint, writer.blocksUsed),
    writer,
    record: { recorded, complete: recorded && (taken?.isComplete ?? false) },
  };
}

/**
 * Writes all of a new cowfile but for the flush, and removes the base record of an old one of that name.
 * @throws CowError `io`, `no-space`, `interrupted`
 */
export async function fillCowfile(
  { storage }: OpenFiles,
  job: CowfileJob,
  context: OperationContext,
): Promise<WrittenCowfile> {
  const { target, abi, base, rdoBlocks, baseBlocks, view, phase, held } = job;
  const { value: fingerprint } = await takeFingerprint(base, baseBlocks ?? rdoBlocks, { signal: context.signal });
  const writer = new CowfileWriter(target, { abi, rdoBlocks, baseBlocks, fingerprint });
  const sizeBytes = rdoBlocks * BLOCK_BYTES;
  const { stopped = () => interrupted(target.name, "nothing was created") } = job;
  await writeImage({ view, sizeBytes, held, writer, target, phase, stopped }, context);
  forgetOld(storage, target.name, context);
  return { writer, fingerprint };
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

/** A base that was read, to be recorded beside a new cowfile. */
interface TakenIdentity {
  readonly isComplete: boolean;
  /** Writes the record. @returns false where that failed, with a warning: the cowfile works without one */
  write(cowfile: string, fingerprint: number): boolean;
}

/** Reads the base before anything is created, so that an interruption leaves nothing. */
export async function takeIdentity(
  { storage }: OpenFiles,
  at: { readonly base: BlockDevice; readonly paths: readonly string[]; readonly blocks: number },
  identity: Exclude<IdentityMode, "none"> | undefined,
  context: OperationContext,
): Promise<TakenIdentity> {
  const taken = await takeRecord(storage, { ...at, budget: identity === "full" ? UNLIMITED : QUICK }, context);
  if (!taken.isComplete) {
    const way = identity === undefined ? "" : " (--identity full records all data)";
    const message = `only samples were recorded: changes elsewhere will not be detected${way}`;
    context.onNotice?.({ severity: "note", file: at.base.name, message });
  }
  return {
    isComplete: taken.isComplete,
    write: (cowfile, fingerprint) =>
      noteOrWarn(storage, cowfile, context, () =>
        taken.write(cowfile, { blocks: at.blocks, blockBytes: BLOCK_BYTES, fingerprint }),
      ),
  };
}
