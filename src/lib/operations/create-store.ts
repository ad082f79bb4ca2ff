/**
 * Owns `create --format dm-snapshot`: a new exception store, empty as the kernel makes it, or holding the chunks in which
 * another image differs. The sparse file has space for every chunk of its origin.
 */
import { interrupted, type OperationContext } from "../context.ts";
import { CowError } from "../errors.ts";
import { DEFAULT_CHUNK_SECTORS, SECTOR_BYTES } from "../formats/dm-snapshot/layout.ts";
import { DmSnapshotWriter, requireGeometry } from "../formats/dm-snapshot/writer.ts";
import { claimOutput, type Overwrite } from "../output/claim.ts";
import { differences } from "../output/differences.ts";
import { viewOf, writeImage } from "../output/write-image.ts";
import { openSides } from "./create.ts";
import { OpenFiles } from "./files.ts";
import { withStackFile } from "./new-stack-file.ts";

/** What `createStoreFile` is asked for. */
export interface CreateStoreRequest extends Overwrite {
  /** Default 16 KiB. */
  readonly chunkBytes?: number | undefined;
  /** A stack: the new store holds the chunks in which it differs from the origin. */
  readonly from?: string | undefined;
  /** Also make this stack file, of the origin and the new store. */
  readonly stackFile?: string | undefined;
}

/** The exception store that `createStoreFile` made. */
export interface CreateStoreResult {
  readonly format: "dm-snapshot";
  readonly rdofile: string;
  readonly cowfile: string;
  readonly virtual_size: number;
  readonly chunk_size: number;
  readonly exceptions: number;
  readonly store_size: number;
  /** The stack file that was made; missing if none was asked for. */
  readonly stack?: string;
}

/**
 * Creates the store `cowfile` over the origin `rdofile` (a stack). It appears whole, or not at all.
 *
 * @throws CowError `usage` (a chunk size that the kernel would not take), `unsuitable`, `exists`, `pending-merge`, `locked`,
 *   `no-space`, `io`, `interrupted`
 */
export async function createStoreFile(
  rdofile: string,
  cowfile: string,
  request: CreateStoreRequest = {},
  context: OperationContext = {},
): Promise<CreateStoreResult> {
  const { chunkBytes = DEFAULT_CHUNK_SECTORS * SECTOR_BYTES } = request;
  if (chunkBytes % SECTOR_BYTES !== 0)
    throw new CowError("usage", `a chunk of ${chunkBytes} bytes is no whole number of sectors`, {
      hints: ["a size has a unit: 16k, 8s for 8 sectors"],
    });
  const geometry = requireGeometry(chunkBytes / SECTOR_BYTES);
  return OpenFiles.during(context, async (files) => {
    const { spec, inputs, below, image } = await openSides(files, rdofile, cowfile, request, context);
    const { device: origin } = below;
    const { sizeBytes } = origin;
    if (sizeBytes === 0) throw new CowError("unsuitable", "has no contents", { file: rdofile });
    if (image && image.sizeBytes !== sizeBytes)
      throw new CowError(
        "unsuitable",
        `is ${image.sizeBytes} bytes long, but ${origin.name} is ${sizeBytes}: a store cannot change the size`,
        { file: image.name },
      );
    claimOutput(files, cowfile, request, "dm-snapshot");
    const make = () =>
      files.write(cowfile, inputs, request, async (target) => {
        const writer = new DmSnapshotWriter(target, geometry, sizeBytes);
        const held = image ? differences(image, origin, chunkBytes, 0, sizeBytes) : [];
        const view = viewOf(image ?? origin);
        const stopped = () => interrupted(target.name, "nothing was created");
        await writeImage({ view, sizeBytes, held, writer, target, phase: "comparing", stopped }, context);
        const { exceptions } = writer;
        const made = { rdofile, cowfile, virtual_size: sizeBytes, chunk_size: chunkBytes };
        const stack = request.stackFile === undefined ? {} : { stack: request.stackFile };
        return { format: "dm-snapshot" as const, ...made, exceptions, store_size: target.sizeBytes, ...stack };
      });
    return withStackFile(files, request.stackFile, { below: spec, layer: cowfile }, request, make);
  });
}
