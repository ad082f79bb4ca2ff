/**
 * Owns what an output has in common whatever its format: the size of its image, and how it names its base. The rest its
 * WrittenFormat says.
 */
import * as path from "node:path";
import type { OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import type { ImageLayout, NewImage, WriteOptions, WrittenFormat } from "../../formats/image-writer.ts";
import { type Loss, loss } from "../../formats/losses.ts";
import { writtenFormat, writtenFormats } from "../../formats/registry.ts";
import type { OpenFiles } from "../files.ts";
import { requireSameRest } from "../fit.ts";
import type { Plan } from "./plan.ts";
import type { ConvertRequest } from "./request.ts";

const FLAGS: Readonly<Record<keyof WriteOptions, string>> = {
  abi: "--abi",
  chunkBytes: "--chunk-size",
  clusterBytes: "--cluster-size",
};

/** An output to be made. */
export interface Output extends ImageLayout {
  readonly format: WrittenFormat;
  /** Bytes of the image that are converted: the view, except for what the format cannot have. */
  readonly sizeBytes: number;
  /** The size that the output itself stores. */
  readonly virtualSizeBytes: number;
  readonly losses: readonly Loss[];
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
  const { files, plan, output, request, context } = making;
  const format = writtenFormat(request.to);
  refuseForeignOptions(request, format);
  const sizes = format.base === "required" ? layerSizes(plan, output, format) : imageSizes(plan, format);
  const { abi, chunkBytes, clusterBytes } = request;
  const layout = await format.layout({
    abi,
    chunkBytes,
    clusterBytes,
    fileName: path.basename(files.storage.realPath(output)),
    sizeBytes: sizes.virtualSizeBytes,
    base: baseOf(making),
    replacedUnits: plan.isCompared ? [] : plan.layers.slice(plan.height).map((layer) => layer.granularityBytes),
    signal: context.signal,
  });
  return { format, ...sizes, ...layout };
}

function refuseForeignOptions(request: ConvertRequest, { id, options }: WrittenFormat): void {
  for (const option of Object.keys(FLAGS) as (keyof WriteOptions)[]) {
    if (request[option] === undefined || options.includes(option)) continue;
    const owner = writtenFormats.find((format: WrittenFormat) => format.options.includes(option))?.id;
    throw new CowError("usage", `${FLAGS[option]} is for --to ${owner}, not for ${id}`);
  }
}

/** The base of an output; of one local file also how the output names it. */
function baseOf({ files: { storage }, plan: { below, layers }, output }: Making): NewImage["base"] {
  if (!below) return undefined;
  const { spec, name, sizeBytes, device: source } = below;
  const part = spec?.layers.length === 0 ? spec.base : undefined;
  const file =
    part && storage.facts(part.path)?.kind !== "remote"
      ? {
          format: typeof part.format === "object" ? part.format.id : "raw",
          // As seen from the output's directory; absolute names stay so.
          name: path.isAbsolute(part.path)
            ? part.path
            : path.relative(path.dirname(path.resolve(storage.realPath(output))), path.resolve(part.path)),
        }
      : undefined;
  const { fingerprint, blocks } = layers[0]?.base ?? {};
  return { name, sizeBytes, source, fingerprint, blocks: blocks === undefined ? undefined : Number(blocks), file };
}

type Sizes = Pick<Output, "sizeBytes" | "virtualSizeBytes" | "losses">;

/** A whole image becomes longer, up to a whole unit. */
function imageSizes({ view: { sizeBytes } }: Plan, { sizeUnitBytes }: WrittenFormat): Sizes {
  const virtualSizeBytes = Math.ceil(sizeBytes / sizeUnitBytes) * sizeUnitBytes;
  const padded = virtualSizeBytes - sizeBytes;
  const losses = padded > 0 ? [loss("size-padded", `the image is ${padded} zeros longer, up to a whole sector`)] : [];
  return { sizeBytes, virtualSizeBytes, losses };
}

/**
 * A layer is as long as its backing, in whole units.
 * @throws CowError `unsuitable` if that has none, or the image is of another size
 */
function layerSizes({ below, view, image }: Plan, output: string, { id, sizeUnitBytes }: WrittenFormat): Sizes {
  if (!below) throw new CowError("usage", `a ${id} layer needs a base`, { file: output });
  const { name, sizeBytes: belowBytes, device } = below;
  const units = Math.floor(belowBytes / sizeUnitBytes);
  if (units === 0)
    throw new CowError("unsuitable", `has ${belowBytes} bytes: less than one unit of ${sizeUnitBytes}`, { file: name });
  if (Math.floor(view.sizeBytes / sizeUnitBytes) !== units)
    throw new CowError(
      "unsuitable",
      `has ${belowBytes} bytes, but the image above it ${view.sizeBytes}: a ${id} layer cannot change the size`,
      { file: name, hints: ["--to qcow2 can"] },
    );
  const sizeBytes = units * sizeUnitBytes;
  const rest = image && device ? requireSameRest(image, device, sizeBytes) : 0;
  const message = `its last ${rest} bytes are less than a whole unit, and not part of the output's image`;
  return { sizeBytes, virtualSizeBytes: sizeBytes, losses: rest > 0 ? [loss("tail-dropped", message)] : [] };
}
