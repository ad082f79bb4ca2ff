/**
 * Owns writing a new cowfile with given parts of an image, for every operation that makes one.
 */
import { interrupted, type OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { takeFingerprint } from "../formats/cowfile/fingerprint.ts";
import { BLOCK_BYTES, type CowAbi } from "../formats/cowfile/layout.ts";
import { CowfileWriter } from "../formats/cowfile/writer.ts";
import { type Held, type ImageJob, writeImage } from "./write-image.ts";

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

/** Writes all of it except the flush. @throws CowError `io`, `no-space`, `interrupted` */
export async function writeCowfile(job: CowfileJob, context: OperationContext): Promise<WrittenCowfile> {
  const { target, abi, base, rdoBlocks, baseBlocks, view, phase, held } = job;
  const { value: fingerprint } = await takeFingerprint(base, baseBlocks ?? rdoBlocks, { signal: context.signal });
  const writer = new CowfileWriter(target, { abi, rdoBlocks, baseBlocks, fingerprint });
  const sizeBytes = rdoBlocks * BLOCK_BYTES;
  const { stopped = () => interrupted(target.name, "nothing was created") } = job;
  await writeImage({ view, sizeBytes, held, writer, target, phase, stopped }, context);
  return { writer, fingerprint };
}
