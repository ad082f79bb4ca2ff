/**
 * Owns each format as an output: checks its options, makes its writer, and knows what the format cannot express.
 */
import * as path from "node:path";
import type { OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { CowError } from "../../errors.ts";
import { takeFingerprint } from "../../formats/cowfile/fingerprint.ts";
import { BLOCK_BYTES, type CowAbi } from "../../formats/cowfile/layout.ts";
import { CowfileWriter } from "../../formats/cowfile/writer.ts";
import { formatTable } from "../../formats/dm-cow/table.ts";
import { DmCowWriter } from "../../formats/dm-cow/writer.ts";
import { DEFAULT_CHUNK_SECTORS, MAX_CHUNK_SECTORS } from "../../formats/dm-snapshot/layout.ts";
import { DmSnapshotWriter, requireGeometry } from "../../formats/dm-snapshot/writer.ts";
import type { ImageWriter } from "../../formats/image-writer.ts";
import { DEFAULT_CLUSTER_BYTES, MAX_CLUSTER_BITS, MIN_CLUSTER_BITS, SECTOR_BYTES } from "../../formats/qcow2/layout.ts";
import { Qcow2Writer } from "../../formats/qcow2/writer.ts";
import { RawWriter } from "../../formats/raw/writer.ts";
import type { StackPart } from "../../stack/spec.ts";
import type { OpenFiles } from "../files.ts";
import { blocksOf, requireSameRest } from "../fit.ts";
import { loss } from "./losses.ts";
import type { BelowOutput, Plan } from "./plan.ts";
import type { ConvertRequest, Loss } from "./request.ts";

/** A dm-cow stack has a file for each device, beside its table. */
const BITMAP_SUFFIX = ".bitmap";
const DATA_SUFFIX = ".data";

/** An output to be made. */
export interface Output {
  /** Bytes of the image that are converted: the view, except for what the format cannot have. */
  readonly sizeBytes: number;
  /** The size that the output itself stores. */
  readonly virtualSizeBytes: number;
  readonly granularityBytes: number | null;
  /**
   * Makes the writer of an empty file, or of one to be resumed.
   * @param beside opens the second file of formats that have two
   * @param isClone the file has the bytes of the base already
   */
  readonly makeWriter: (target: BlockDevice, beside: (suffix: string) => BlockDevice, isClone: boolean) => ImageWriter;
  readonly losses: readonly Loss[];
  /**
   * For formats of several files: the suffixes of the files with the data and of the other one, and the contents of the
   * output itself, which comes last.
   */
  readonly several?: { readonly data: string; readonly beside: string; readonly text: string };
  /** Of a cowfile: what it says of its base. */
  readonly identity?: { readonly blocks: number; readonly fingerprint: number };
}

interface Making {
  readonly files: OpenFiles;
  readonly plan: Plan;
  readonly output: string;
  readonly request: ConvertRequest;
  readonly context: OperationContext;
}

/** @throws CowError `usage` for options that do not go with the format, `unsuitable` for images that do not */
export async function makeOutput(making: Making): Promise<Output> {
  refuseForeignOptions(making.request);
  switch (making.request.to) {
    case "raw":
      return rawOutput(making);
    case "qcow2":
      return qcow2Output(making);
    case "cowfile":
      return cowfileOutput(making);
    case "dm-snapshot":
      return dmSnapshotOutput(making);
    case "dm-cow":
      return dmCowOutput(making);
  }
}

function refuseForeignOptions({ to, abi, chunkBytes, clusterBytes }: ConvertRequest): void {
  const refuse = (flag: string, owner: string): never => {
    throw new CowError("usage", `${flag} is for --to ${owner}, not for ${to}`);
  };
  if (abi !== undefined && to !== "cowfile") refuse("--abi", "cowfile");
  if (chunkBytes !== undefined && to !== "dm-snapshot") refuse("--chunk-size", "dm-snapshot");
  if (clusterBytes !== undefined && to !== "qcow2") refuse("--cluster-size", "qcow2");
}

function rawOutput({ plan }: Making): Output {
  const { sizeBytes } = plan.view;
  return {
    sizeBytes,
    virtualSizeBytes: sizeBytes,
    granularityBytes: null,
    makeWriter: (target, _beside, isClone) => new RawWriter(target, sizeBytes, isClone),
    losses: [],
  };
}

function qcow2Output({ files, plan, output, request }: Making): Output {
  const clusterBytes = request.clusterBytes ?? DEFAULT_CLUSTER_BYTES;
  const bits = Math.log2(clusterBytes);
  if (!Number.isInteger(bits) || bits < MIN_CLUSTER_BITS || bits > MAX_CLUSTER_BITS) {
    const [least, most] = [2 ** MIN_CLUSTER_BITS, 2 ** MAX_CLUSTER_BITS];
    throw new CowError("usage", `--cluster-size ${clusterBytes} is no power of two from ${least} to ${most}`);
  }
  const { sizeBytes } = plan.view;
  const virtualSizeBytes = Math.ceil(sizeBytes / SECTOR_BYTES) * SECTOR_BYTES;
  const backing = plan.below && backingOf(files, plan.below, output);
  const padded = virtualSizeBytes - sizeBytes;
  return {
    sizeBytes,
    virtualSizeBytes,
    granularityBytes: clusterBytes,
    makeWriter: (target) => new Qcow2Writer(target, { virtualSizeBytes, clusterBytes, backing }),
    losses: padded > 0 ? [loss("size-padded", `the image is ${padded} zeros longer, up to a whole sector`)] : [],
  };
}

/** The name of the backing file as stored in the output. */
function backingOf(files: OpenFiles, below: BelowOutput, output: string): { name: string; format: string } {
  const part = onlyPartOf(below);
  const format = typeof part?.format === "object" ? part.format.id : "raw";
  if (!part || !["raw", "qcow2"].includes(format)) {
    throw new CowError("usage", `"${below.name}" cannot be a backing file: that is one raw or qcow2 file`, {
      hints: ["convert it to qcow2 first, or leave --base away for a whole image"],
    });
  }
  if (part.path.includes("://")) throw new CowError("usage", "a backing file must be a file", { file: part.path });
  const name = relativeTo(files, output, part.path);
  // QEMU takes the text before a colon for a protocol.
  return { name: name.includes(":") && !name.startsWith(".") ? `./${name}` : name, format };
}

/** The only part of a stack, if there is one. */
function onlyPartOf({ spec }: BelowOutput): StackPart | undefined {
  return spec?.layers.length === 0 ? spec.base : undefined;
}

/** A file's name as seen from the output's directory; absolute ones stay so. */
function relativeTo(files: OpenFiles, output: string, name: string): string {
  if (path.isAbsolute(name)) return name;
  const directory = path.dirname(path.resolve(files.storage.realPath(output)));
  return path.relative(directory, path.resolve(name));
}

async function cowfileOutput(making: Making): Promise<Output> {
  const { plan, request, context } = making;
  const { below, ...common } = layerOutput(making, BLOCK_BYTES);
  const abi: CowAbi = request.abi ?? "le64";
  const rdoBlocks = blocksOf(below, abi);
  const lone = plan.layers[0]?.base.fingerprint;
  const fingerprint = below.device
    ? (await takeFingerprint(below.device, rdoBlocks, { signal: context.signal })).value
    : (lone ?? 0);
  return {
    ...common,
    makeWriter: (target) => new CowfileWriter(target, { abi, rdoBlocks, fingerprint }),
    identity: { blocks: rdoBlocks, fingerprint },
  };
}

/**
 * A layer is as long as its backing, in whole units.
 * @throws CowError `unsuitable` if that has none, or the image is of another size
 */
function layerOutput(
  { plan, output, request: { to } }: Making,
  unitBytes: number,
): Pick<Output, "sizeBytes" | "virtualSizeBytes" | "granularityBytes" | "losses"> & { readonly below: BelowOutput } {
  const { below, view, image } = plan;
  if (!below) throw new CowError("usage", `a ${to} layer needs a base`, { file: output });
  const { name, sizeBytes: belowBytes, device } = below;
  const units = Math.floor(belowBytes / unitBytes);
  if (units === 0)
    throw new CowError("unsuitable", `has ${belowBytes} bytes: less than one unit of ${unitBytes}`, { file: name });
  if (Math.floor(view.sizeBytes / unitBytes) !== units)
    throw new CowError(
      "unsuitable",
      `has ${belowBytes} bytes, but the image above it ${view.sizeBytes}: a ${to} layer cannot change the size`,
      { file: name, hints: ["--to qcow2 can"] },
    );
  const sizeBytes = units * unitBytes;
  const rest = image && device ? requireSameRest(image, device, sizeBytes) : 0;
  const message = `its last ${rest} bytes are less than a whole unit, and not part of the output's image`;
  const losses = rest > 0 ? [loss("tail-dropped", message)] : [];
  return { below, sizeBytes, virtualSizeBytes: sizeBytes, granularityBytes: unitBytes, losses };
}

function dmSnapshotOutput(making: Making): Output {
  const chunkBytes = making.request.chunkBytes ?? exactChunk(making.plan);
  const geometry = requireGeometry(chunkBytes / SECTOR_BYTES);
  return {
    ...layerOutput(making, SECTOR_BYTES),
    granularityBytes: chunkBytes,
    makeWriter: (target) => new DmSnapshotWriter(target, geometry),
  };
}

/** The chunk size that holds exactly the layers' extents; without layers, the kernel's default. */
function exactChunk({ layers, height, isCompared }: Plan): number {
  const units = isCompared ? [] : layers.slice(height).map(({ granularityBytes }) => granularityBytes);
  const least = Math.min(...units, MAX_CHUNK_SECTORS * SECTOR_BYTES);
  const isPossible = units.length > 0 && least >= SECTOR_BYTES && Number.isInteger(Math.log2(least));
  return isPossible ? least : DEFAULT_CHUNK_SECTORS * SECTOR_BYTES;
}

function dmCowOutput(making: Making): Output {
  const { files, output } = making;
  const { below, ...common } = layerOutput(making, SECTOR_BYTES);
  const base = onlyPartOf(below);
  if (!base || (base.format !== undefined && base.format !== "raw") || base.path.includes("://"))
    throw new CowError("usage", `"${below.name}" cannot be the base of a dm-cow stack: that is one raw file`, {
      hints: ["convert it to raw first"],
    });
  const sectors = common.sizeBytes / SECTOR_BYTES;
  const name = path.basename(files.storage.realPath(output));
  const device = relativeTo(files, output, base.path);
  for (const word of [name, device]) {
    if (/\s/.test(word))
      throw new CowError("usage", "has a space in its name, which no dm-cow table can have", { file: word });
  }
  const layer = { bitmap: name + BITMAP_SUFFIX, data: name + DATA_SUFFIX, offset: 0 };
  const text = `${formatTable({ sectors, base: { device, offset: 0 }, layers: [layer] })}\n`;
  return {
    ...common,
    several: { data: DATA_SUFFIX, beside: BITMAP_SUFFIX, text },
    makeWriter: (target, beside) => new DmCowWriter(target, beside(BITMAP_SUFFIX), sectors),
  };
}
