/**
 * Owns `create`: a new cowfile, empty as the driver makes it, or holding just what differs between two images.
 */
import { readZeroFilled } from "../bytes/byte-source.ts";
import { type ExtentList, widen } from "../bytes/extent.ts";
import type { OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { CowError } from "../errors.ts";
import { formatFingerprint } from "../formats/cowfile/head.ts";
import { BLOCK_BYTES, type CowAbi, DRIVER_BLOCK_LIMIT, maxBlocks } from "../formats/cowfile/layout.ts";
import { claimOutput, type Overwrite } from "../output/claim.ts";
import { differences } from "../output/differences.ts";
import { writeCowfile } from "../output/write-cowfile.ts";
import { type Held, viewOf } from "../output/write-image.ts";
import type { StackSpec } from "../stack/spec.ts";
import { OpenFiles, refusePending, refuseSameFile } from "./files.ts";
import type { IdentityMode } from "./identity/modes.ts";
import { QUICK, UNLIMITED } from "./identity/sampling.ts";
import { forgetOld, noteOrWarn, type TakenRecord, takeRecord } from "./identity/take.ts";

export interface CreateRequest extends Overwrite {
  readonly abi?: CowAbi;
  /** A stack: the new cowfile shall hold exactly the blocks in which it differs from the base. */
  readonly from?: string | StackSpec | undefined;
  /** The parts in which `from` differs, where they were compared already; default: they are compared now. */
  readonly differing?: ExtentList | undefined;
  /** How much of the base is looked at, so that a change of it is noticed later; default `quick`. */
  readonly identity?: IdentityMode;
}

export interface CreateResult {
  readonly rdofile: string;
  readonly cowfile: string;
  readonly abi: CowAbi;
  readonly rdo_blocks: number;
  readonly virtual_size: number;
  readonly map_size: number;
  readonly data_offset: number;
  readonly fingerprint: string;
  readonly blocks_used: number;
  /** What was noted of the base beside the cowfile. */
  readonly identity: { readonly recorded: boolean; readonly complete: boolean };
}

/**
 * Creates `cowfile` over `rdofile` (a file, a block device or a stack). It appears whole, or not at all.
 *
 * @throws CowError `unsuitable` (empty base, too large for the ABI, images of unequal size), `exists`, `usage`,
 *   `pending-merge`, `locked`, `no-space`, `io`, `interrupted`
 */
export async function create(
  rdofile: string | StackSpec,
  cowfile: string,
  request: CreateRequest = {},
  context: OperationContext = {},
): Promise<CreateResult> {
  const abi = request.abi ?? "le64";
  return OpenFiles.during(context, async (files) => {
    const below = files.stackSpec(rdofile);
    const from = files.stackSpec(request.from);
    const stacks = from ? [below, from] : [below];
    const inputs = stacks.flatMap((stack) => stack.files);
    refuseSameFile(files.storage, cowfile, inputs);
    for (const stack of stacks) refusePending(files.storage, stack, [cowfile], request.force);
    const { device: base, paths } = await files.openStack(below, request.force);
    const rdoBlocks = requireUsableSize(base, abi, context);
    const image = from && (await files.openStack(from, request.force)).device;
    if (image) requireSameShape(base, image, rdoBlocks);
    claimOutput(files, cowfile, request, "cowfile");
    const taken = await takeIdentity(files, { base, paths, blocks: rdoBlocks }, request.identity, context);
    const made = await files.write(cowfile, inputs, request, async (target) => {
      const [view, differing] = image
        ? [viewOf(image), differingBlocks(request, base, image, rdoBlocks)]
        : [NOTHING, []];
      const job = { target, abi, base, rdoBlocks, view, held: differing, phase: "comparing" };
      const written = await writeCowfile(job, context);
      forgetOld(files.storage, cowfile, context);
      return written;
    });
    const { writer, fingerprint } = made;
    const identity = { blocks: rdoBlocks, blockBytes: BLOCK_BYTES, fingerprint };
    const recorded = !!taken && noteOrWarn(files.storage, cowfile, context, () => taken.write(cowfile, identity));
    return {
      rdofile: below.text,
      cowfile,
      abi,
      rdo_blocks: rdoBlocks,
      virtual_size: rdoBlocks * BLOCK_BYTES,
      map_size: writer.mapSizeBytes,
      data_offset: writer.dataOffsetBytes,
      fingerprint: formatFingerprint(fingerprint),
      blocks_used: writer.blocksUsed,
      identity: { recorded, complete: recorded && (taken?.isComplete ?? false) },
    };
  });
}

const NOTHING = { places: () => [] };

/** The blocks in which the image differs from the base: compared already, or while the cowfile is written. */
function differingBlocks(
  { differing }: CreateRequest,
  base: BlockDevice,
  image: BlockDevice,
  rdoBlocks: number,
): Iterable<Held> {
  const end = rdoBlocks * BLOCK_BYTES;
  // Of a list that became too long only the beginning was kept.
  if (differing?.omitted === 0) return widen(differing, BLOCK_BYTES, end);
  return differences(image, base, BLOCK_BYTES, 0, end);
}

/** Looks at the base before anything is created, so that an interruption leaves nothing. */
export async function takeIdentity(
  { storage }: OpenFiles,
  at: { readonly base: BlockDevice; readonly paths: readonly string[]; readonly blocks: number },
  identity: IdentityMode | undefined,
  context: OperationContext,
): Promise<TakenRecord | undefined> {
  if (identity === "none") return undefined;
  const taken = await takeRecord(storage, { ...at, budget: identity === "full" ? UNLIMITED : QUICK }, context);
  if (!taken.isComplete) {
    const message =
      "only samples were recorded: changes elsewhere will not be detected (--identity full records all data)";
    context.onNotice?.({ severity: "note", file: at.base.name, message });
  }
  return taken;
}

/** @returns the blocks of the base @throws CowError `unsuitable` if it has none, or more than the ABI can describe */
export function requireUsableSize(base: BlockDevice, abi: CowAbi, context: OperationContext): number {
  const blocks = Math.floor(base.sizeBytes / BLOCK_BYTES);
  if (blocks === 0) {
    throw new CowError(
      "unsuitable",
      `has no contents: ${base.sizeBytes} bytes are less than one block of ${BLOCK_BYTES}`,
      { file: base.name },
    );
  }
  if (blocks > maxBlocks(abi)) {
    throw new CowError(
      "unsuitable",
      `has ${blocks} blocks, more than the ${maxBlocks(abi)} that a cowfile of ABI ${abi} can describe`,
      {
        file: base.name,
        hints: abi.endsWith("32") ? ["--abi le64 or be64 can describe it"] : [],
      },
    );
  }
  if (blocks >= DRIVER_BLOCK_LIMIT) {
    context.onNotice?.({
      severity: "warning",
      file: base.name,
      message: "has 4 TiB or more: cowtool handles that, the original driver's block count wraps",
    });
  }
  const tail = base.sizeBytes % BLOCK_BYTES;
  if (tail !== 0) {
    context.onNotice?.({
      severity: "note",
      file: base.name,
      message: `its last ${tail} bytes are less than a block, and not part of the image`,
    });
  }
  return blocks;
}

/** @throws CowError `unsuitable` unless a cowfile can turn one into the other, as far as their sizes go */
export function requireSameShape(base: BlockDevice, image: BlockDevice, rdoBlocks: number): void {
  // A stack ends at a whole block, while the base below it may go on for less than one.
  const wholeBytes = rdoBlocks * BLOCK_BYTES;
  if (image.sizeBytes !== base.sizeBytes && image.sizeBytes !== wholeBytes) {
    throw new CowError(
      "unsuitable",
      `is ${image.sizeBytes} bytes long, but ${base.name} is ${base.sizeBytes}: a cowfile cannot change the size`,
      { file: image.name },
    );
  }
  const tail = Math.min(base.sizeBytes, image.sizeBytes) - wholeBytes;
  if (tail <= 0) return;
  const [a, b] = [new Uint8Array(tail), new Uint8Array(tail)];
  readZeroFilled(base, a, wholeBytes);
  readZeroFilled(image, b, wholeBytes);
  if (Buffer.compare(a, b) !== 0) {
    throw new CowError(
      "unsuitable",
      `differs from ${base.name} in its last ${tail} bytes, which are less than a block and cannot be in a cowfile`,
      { file: image.name },
    );
  }
}
