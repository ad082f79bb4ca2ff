/**
 * Owns what each format needs to be an output: its options judged, its writer, and what of the input it cannot tell.
 */
import * as path from "node:path";
import { readZeroFilled } from "../../bytes/byte-source.ts";
import type { OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { CowError } from "../../errors.ts";
import { takeFingerprint } from "../../formats/cowfile/fingerprint.ts";
import { BLOCK_BYTES, type CowAbi, maxBlocks } from "../../formats/cowfile/layout.ts";
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
import { loss } from "./losses.ts";
import type { BelowOutput, Plan } from "./plan.ts";
import type { ConvertRequest, Loss } from "./request.ts";

/** A dm-cow stack has a file for each device, beside its table. */
const BITMAP_SUFFIX = ".bitmap";
const DATA_SUFFIX = ".data";

/** An output as it is to be made. */
export interface Output {
  /** Bytes of the image that are converted: those of the view, but for what the format cannot have. */
  readonly sizeBytes: number;
  /** What the output itself says its size is. */
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
   * Of formats of several files: that of the one with the data, that of the other one, each behind the output's name, and
   * what is to stand in the output itself, which comes last.
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

/** The name of the backing file as it is to stand in the output. */
function backingOf(files: OpenFiles, below: BelowOutput, output: string): { name: string; format: string } {
  const part = onlyPartOf(below);
  const format = typeof part?.format === "object" ? part.format.id : "raw";
  if (!part || !["raw", "qcow2"].includes(format)) {
    throw new CowError("usage", `"${textOf(below)}" cannot be a backing file: that is one raw or qcow2 file`, {
      hints: ["convert it to qcow2 first, or leave --base away for a whole image"],
    });
  }
  if (part.path.includes("://")) throw new CowError("usage", "a backing file must be a file", { file: part.path });
  const name = relativeTo(files, output, part.path);
  // QEMU takes what stands before a colon for a protocol.
  return { name: name.includes(":") && !name.startsWith(".") ? `./${name}` : name, format };
}

/** The part that a stack of only one consists of. */
function onlyPartOf({ spec }: BelowOutput): StackPart | undefined {
  return spec?.layers.length === 0 ? spec.base : undefined;
}

function textOf({ spec }: BelowOutput): string {
  return spec?.text ?? "";
}

/** A file's name as seen from the output's directory; absolute ones stay so. */
function relativeTo(files: OpenFiles, output: string, name: string): string {
  if (path.isAbsolute(name)) return name;
  const directory = path.dirname(path.resolve(files.storage.realPath(output)));
  return path.relative(directory, path.resolve(name));
}

async function cowfileOutput({ plan, output, request, context }: Making): Promise<Output> {
  const { below } = plan;
  if (!below) throw new CowError("usage", "a cowfile needs a base", { file: output });
  const blocks = Math.floor(below.sizeBytes / BLOCK_BYTES);
  const abi: CowAbi = request.abi ?? "le64";
  requireBlocks(blocks, abi, plan, below);
  const sizeBytes = blocks * BLOCK_BYTES;
  const lone = plan.layers[0]?.base.fingerprint;
  const fingerprint = below.device
    ? (await takeFingerprint(below.device, blocks, { signal: context.signal })).value
    : (lone ?? 0);
  return {
    sizeBytes,
    virtualSizeBytes: sizeBytes,
    granularityBytes: BLOCK_BYTES,
    makeWriter: (target) => new CowfileWriter(target, { abi, rdoBlocks: blocks, fingerprint }),
    losses: tailLosses(plan, below, sizeBytes),
    identity: { blocks, fingerprint },
  };
}

function requireBlocks(blocks: number, abi: CowAbi, plan: Plan, below: BelowOutput): void {
  const refuse = (message: string, hints: readonly string[] = []): never => {
    throw new CowError("unsuitable", message, { file: below.device?.name ?? textOf(below), hints });
  };
  if (blocks === 0) refuse(`has ${below.sizeBytes} bytes: less than one block of ${BLOCK_BYTES}`);
  if (blocks > maxBlocks(abi)) {
    const hints = abi.endsWith("32") ? ["--abi le64 or be64 can describe it"] : [];
    refuse(`has ${blocks} blocks, more than the ${maxBlocks(abi)} that a cowfile of ABI ${abi} can describe`, hints);
  }
  if (Math.floor(plan.view.sizeBytes / BLOCK_BYTES) !== blocks) {
    refuse(
      `has ${below.sizeBytes} bytes, but the image above it ${plan.view.sizeBytes}: a cowfile cannot change the size`,
      ["--to qcow2 can"],
    );
  }
}

/** A layer whose format stores no size: it is as long as what lies below it, in whole sectors. */
function sectorsOf({ plan, output, request }: Making): { below: BelowOutput; sectors: number } {
  const { below, view } = plan;
  if (!below) throw new CowError("usage", `a ${request.to} layer needs a base`, { file: output });
  const sectors = Math.floor(below.sizeBytes / SECTOR_BYTES);
  if (sectors === 0) throw new CowError("unsuitable", "has no whole sector", { file: textOf(below) });
  if (Math.floor(view.sizeBytes / SECTOR_BYTES) === sectors) return { below, sectors };
  throw new CowError(
    "unsuitable",
    `has ${below.sizeBytes} bytes, but the image above it ${view.sizeBytes}: ${request.to} cannot change the size`,
    { file: textOf(below), hints: ["--to qcow2 can"] },
  );
}

function dmSnapshotOutput(making: Making): Output {
  const { plan, request } = making;
  const { below, sectors } = sectorsOf(making);
  const chunkBytes = request.chunkBytes ?? exactChunk(plan);
  const geometry = requireGeometry(chunkBytes / SECTOR_BYTES);
  const sizeBytes = sectors * SECTOR_BYTES;
  return {
    sizeBytes,
    virtualSizeBytes: sizeBytes,
    granularityBytes: chunkBytes,
    makeWriter: (target) => new DmSnapshotWriter(target, geometry),
    losses: tailLosses(plan, below, sizeBytes),
  };
}

/** The chunks in which the store holds just what the layers do; where no layers tell, what the kernel takes by itself. */
function exactChunk({ layers, height, isCompared }: Plan): number {
  const units = isCompared ? [] : layers.slice(height).map(({ granularityBytes }) => granularityBytes);
  const least = Math.min(...units, MAX_CHUNK_SECTORS * SECTOR_BYTES);
  const isPossible = units.length > 0 && least >= SECTOR_BYTES && Number.isInteger(Math.log2(least));
  return isPossible ? least : DEFAULT_CHUNK_SECTORS * SECTOR_BYTES;
}

function dmCowOutput(making: Making): Output {
  const { files, plan, output } = making;
  const { below, sectors } = sectorsOf(making);
  const base = onlyPartOf(below);
  if (!base || (base.format !== undefined && base.format !== "raw") || base.path.includes("://")) {
    throw new CowError("usage", `"${textOf(below)}" cannot be the base of a dm-cow stack: that is one raw file`, {
      hints: ["convert it to raw first"],
    });
  }
  const sizeBytes = sectors * SECTOR_BYTES;
  const name = path.basename(files.storage.realPath(output));
  const device = relativeTo(files, output, base.path);
  for (const word of [name, device]) {
    if (/\s/.test(word))
      throw new CowError("usage", "has a space in its name, which no dm-cow table can have", { file: word });
  }
  const layer = { bitmap: name + BITMAP_SUFFIX, data: name + DATA_SUFFIX, offset: 0 };
  const text = `${formatTable({ sectors, base: { device, offset: 0 }, layers: [layer] })}\n`;
  return {
    sizeBytes,
    virtualSizeBytes: sizeBytes,
    granularityBytes: SECTOR_BYTES,
    several: { data: DATA_SUFFIX, beside: BITMAP_SUFFIX, text },
    makeWriter: (target, beside) => new DmCowWriter(target, beside(BITMAP_SUFFIX), sectors),
    losses: tailLosses(plan, below, sizeBytes),
  };
}

function tailLosses(plan: Plan, below: BelowOutput, sizeBytes: number): readonly Loss[] {
  if (!dropsTail(plan, below, sizeBytes)) return [];
  const rest = plan.view.sizeBytes - sizeBytes;
  return [
    loss("tail-dropped", `its last ${rest} bytes are less than a whole unit, and not part of the output's image`),
  ];
}

/**
 * Does the image have a rest behind its last block?
 * @throws CowError `unsuitable` if that is not as in the base
 */
function dropsTail(plan: Plan, below: BelowOutput, sizeBytes: number): boolean {
  const rest = plan.view.sizeBytes - sizeBytes;
  if (rest <= 0 || !plan.image || !below.device) return false;
  const [ours, theirs] = [new Uint8Array(rest), new Uint8Array(rest)];
  readZeroFilled(plan.image, ours, sizeBytes);
  readZeroFilled(below.device, theirs, sizeBytes);
  if (Buffer.compare(ours, theirs) === 0) return true;
  throw new CowError(
    "unsuitable",
    `differs from its base in its last ${rest} bytes, which are less than a whole unit and cannot be in the output`,
    { file: plan.image.name },
  );
}
