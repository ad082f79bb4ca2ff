/**
 * Owns `create`: a new cowfile, empty as the driver makes it, or with exactly the differences between two images.
 */
import { type ExtentList, widen } from "../bytes/extent.ts";
import type { OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { BLOCK_BYTES, type CowAbi } from "../formats/cowfile/layout.ts";
import type { Overwrite } from "../output/claim.ts";
import { differences } from "../output/differences.ts";
import { type Held, viewOf } from "../output/write-image.ts";
import { commonHeight, type Stack } from "../stack/open.ts";
import type { StackSpec } from "../stack/spec.ts";
import { OpenFiles, refusePending, refuseSameFile } from "./files.ts";
import { requireFit } from "./fit.ts";
import type { IdentityMode } from "./identity/modes.ts";
import { requireSameBases } from "./identity/stack-bases.ts";
import { makeCowfile } from "./new-cowfile.ts";
import { withStackFile } from "./new-stack-file.ts";

/** What `create` is asked for. */
export interface CreateRequest extends Overwrite {
  readonly abi?: CowAbi;
  /** A stack: the new cowfile holds exactly the blocks in which it differs from the base. */
  readonly from?: string | StackSpec | undefined;
  /** The parts in which `from` differs, where they were compared already; default: they are compared now. */
  readonly differing?: ExtentList | undefined;
  /** Also make this stack file, of the base and the new cowfile. */
  readonly stackFile?: string | undefined;
  /** How much of the base is recorded, so that changes are noticed later; default `quick`. */
  readonly identity?: IdentityMode;
}

/** The cowfile that `create` made. */
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
  /** The stack file that was made; missing if none was asked for. */
  readonly stack?: string;
  /** The base record beside the cowfile. */
  readonly identity: { readonly recorded: boolean; readonly complete: boolean };
}

/**
 * Creates `cowfile` over `rdofile` (a file, a block device or a stack). It appears whole, or not at all.
 *
 * @throws CowError `unsuitable` (empty base, too large for the ABI, images of unequal size), `wrong-base` (a layer of `from` whose
 *   base was changed where it shows), `exists`, `usage`, `pending-merge`, `locked`, `no-space`, `io`, `interrupted`
 */
export async function create(
  rdofile: string | StackSpec,
  cowfile: string,
  request: CreateRequest = {},
  context: OperationContext = {},
): Promise<CreateResult> {
  const { abi = "le64", identity = "quick" } = request;
  return OpenFiles.during(context, async (files) => {
    const { spec, inputs, below, image } = await openSides(files, rdofile, cowfile, request, context);
    const { device: base, paths: basePaths } = below;
    const rdoBlocks = requireFit(base, image, abi, context);
    const content = image
      ? { view: viewOf(image), held: differingBlocks(request, base, image, rdoBlocks) }
      : { view: { places: () => [] }, held: [] };
    const job = { ...content, output: cowfile, allowed: request, inputs, base, basePaths, rdoBlocks, abi, identity };
    const over = { below: spec, layer: cowfile };
    const { facts, writer, record } = await withStackFile(files, request.stackFile, over, request, () =>
      makeCowfile(files, { ...job, phase: "comparing" }, context),
    );
    return {
      rdofile: spec.text,
      cowfile,
      abi,
      rdo_blocks: facts.rdo_blocks,
      virtual_size: facts.virtual_size,
      map_size: writer.mapSizeBytes,
      data_offset: writer.dataOffsetBytes,
      fingerprint: facts.fingerprint,
      blocks_used: facts.blocks_used,
      ...(request.stackFile !== undefined && { stack: request.stackFile }),
      identity: record,
    };
  });
}

/**
 * Opens what a new layer is to be over, and the image that it is to show.
 * @param request.from undefined for an empty layer
 */
export async function openSides(
  files: OpenFiles,
  rdofile: string | StackSpec,
  output: string,
  { from, force }: Pick<CreateRequest, "from" | "force">,
  context: OperationContext,
): Promise<{ spec: StackSpec; inputs: readonly string[]; below: Stack; image: BlockDevice | undefined }> {
  const spec = files.stackSpec(rdofile);
  const other = files.stackSpec(from);
  const stacks = other ? [spec, other] : [spec];
  const inputs = stacks.flatMap((stack) => stack.files);
  refuseSameFile(files.storage, output, inputs);
  for (const stack of stacks) refusePending(files.storage, stack, [output], force);
  const below = await files.openStack(spec, force);
  const shown = other && (await files.openStack(other, force));
  if (shown) {
    const way = force ? undefined : "--force makes the layer all the same";
    await requireSameBases(files, shown, { from: (commonHeight(shown, below) ?? 0) + 1, way }, context);
  }
  return { spec, inputs, below, image: shown?.device };
}

/** The blocks in which the image differs from the base: compared already, or while the cowfile is written. */
function differingBlocks(
  { differing }: CreateRequest,
  base: BlockDevice,
  image: BlockDevice,
  rdoBlocks: number,
): Iterable<Held> {
  const end = rdoBlocks * BLOCK_BYTES;
  // A list that became too long has only the beginning.
  if (differing?.omitted === 0) return widen(differing, BLOCK_BYTES, end);
  return differences(image, base, BLOCK_BYTES, 0, end);
}
