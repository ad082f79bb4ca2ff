/**
 * Owns `info`: the facts about a file, an image or a stack. Reads metadata only and changes nothing.
 */

import type { Extent } from "../bytes/extent.ts";
import { interrupted, makePause, type OperationContext, type Pause } from "../context.ts";
import { CowError } from "../errors.ts";
import type { ImageFacts, Layer, LayerFormat, Problem } from "../formats/format.ts";
import { describeContent } from "../formats/raw/describe.ts";
import { detectFormat } from "../formats/registry.ts";
import { formatOfPart, type OpenPart, openAsLayer } from "../stack/open-part.ts";
import { StackSpec } from "../stack/spec.ts";
import { asProblem, pendingMergeOf, refuseSecondBase } from "./chain.ts";
import { type GivenStack, notesOfServer, OpenFiles } from "./files.ts";
import { describeChain, type LinkFacts, pendingFact } from "./info-chain.ts";

/** What `info` is asked for. */
export interface InfoOptions {
  /** A stack to compare with the identity of the base in the file. */
  readonly rdofile?: GivenStack | undefined;
  /** Also list the allocated parts. */
  readonly map?: boolean;
  /** Read a file that another process is writing: the result may be outdated. */
  readonly forceShare?: boolean;
}

/** A part of the image that is allocated in the file, or comes from the backing. */
export interface MapExtent extends Extent {
  readonly allocated: boolean;
}

/** The facts about an image; a format adds its own. */
export interface InfoResult extends ImageFacts {
  readonly file: string;
  readonly file_size: number;
  /** Null for devices and exports, of which nothing tells. */
  readonly allocated_size: number | null;
}

/** What `info` found. Its lists are made while they are read: close it afterwards. */
export interface Info {
  readonly facts: InfoResult;
  /** Of a stack: its parts, base first. */
  readonly chain: readonly LinkFacts[] | undefined;
  readonly problems: Iterable<Problem>;
  /**
   * With `map`: covers the whole image, ascending; made while it is read. The file stays open and locked until the last
   * extent was read, or close() was called.
   */
  readonly extents: AsyncIterable<MapExtent> | undefined;
  /** The size that they cover: for a file that stores no size, up to its last allocated part. */
  readonly mapBytes: number;
  close(): void;
}

/**
 * Describes `file`: a file of any format, a raw image, a device, the URI of an export, or a stack `BASE,LAYER,…`.
 *
 * @throws CowError `not-found`, `locked`, `bad-head`, `unsupported`, `truncated`, `io`
 */
export async function info(file: string, options: InfoOptions = {}, context: OperationContext = {}): Promise<Info> {
  const files = new OpenFiles(context);
  try {
    const result = await describe(files, file, options, context);
    if (!result.extents) files.close();
    return result;
  } catch (error) {
    files.close();
    throw error;
  }
}

async function describe(
  files: OpenFiles,
  file: string,
  options: InfoOptions,
  context: OperationContext,
): Promise<Info> {
  const spec = StackSpec.parse(files.storage, file);
  const described =
    spec.layers.length > 0 ? await ofStack(files, spec, options, context) : await ofFile(files, spec, options, context);
  const { facts, chain, problems, mapped } = described;
  const pause = makePause(context.signal, () => interrupted(file, "nothing was changed"));
  return {
    facts,
    chain,
    problems,
    extents: options.map && mapped ? mapExtents(mapped, files, pause) : undefined,
    mapBytes: mapped?.virtualSizeBytes ?? facts.virtual_size ?? 0,
    close: () => files.close(),
  };
}

type Mapped = Pick<Layer, "virtualSizeBytes" | "extents">;

interface Described extends Pick<Info, "facts" | "chain" | "problems"> {
  readonly mapped: Mapped | undefined;
}

async function ofStack(
  files: OpenFiles,
  spec: StackSpec,
  options: InfoOptions,
  context: OperationContext,
): Promise<Described> {
  refuseSecondBase(spec, options.rdofile);
  const { layer, ...described } = await describeChain(files, spec, context);
  return { ...described, mapped: layer };
}

async function ofFile(
  files: OpenFiles,
  spec: StackSpec,
  options: InfoOptions,
  context: OperationContext,
): Promise<Described> {
  const opened = files.openPart(spec.base, { lock: options.forceShare ? "none" : "shared" });
  const { file: device, part } = opened;
  const kept = files.storage.facts(part.path);
  const sizes = {
    file_size: device.sizeBytes,
    allocated_size: kept?.kind === "file" ? (kept.allocatedBytes ?? device.sizeBytes) : null,
  };
  if (part.format === "raw" || (part.format === undefined && !detectFormat(device))) {
    const pending = pendingMergeOf(files.storage, spec);
    const facts = {
      file: spec.text,
      format: "raw",
      virtual_size: device.sizeBytes,
      ...describeContent(device),
      ...(pending && { pending_merge: pendingFact(pending) }),
      ...sizes,
    };
    const mapped = { virtualSizeBytes: device.sizeBytes, extents: device.dataExtents.bind(device) };
    return { facts, chain: undefined, problems: pending ? [asProblem(pending)] : [], mapped };
  }
  const format = formatOfPart(opened);
  const below = (await files.openStack(options.rdofile))?.device;
  const hooks = { ...opened.options, ...notesOfServer(files, part.path), backing: below, signal: context.signal };
  const { facts, problems } = await format.describe(device, hooks);
  const judged = below ? await format.judgeBase(device, below, hooks) : [];
  const how = { allowDirty: true, backing: below, signal: context.signal };
  const mapped = options.map ? (await openAsLayer(opened, how, () => files.scratch(part.path))).layer : undefined;
  return {
    facts: { file: spec.text, ...facts, ...contentOfImage(format, opened), ...sizes },
    chain: undefined,
    problems: {
      *[Symbol.iterator]() {
        yield* judged;
        yield* problems;
      },
    },
    mapped,
  };
}

/** What an image is that is one by itself, such as a qcow2 file without a backing file. */
function contentOfImage(
  format: LayerFormat,
  { file, options }: OpenPart,
): ReturnType<typeof describeContent> | undefined {
  try {
    const image = format.openImage?.(file, { ...options, allowDirty: true });
    return image && describeContent(image);
  } catch (error) {
    if (error instanceof CowError) return undefined;
    throw error;
  }
}

async function* mapExtents(layer: Mapped, files: OpenFiles, pause: Pause): AsyncGenerator<MapExtent> {
  try {
    const end = layer.virtualSizeBytes;
    let at = 0;
    for (const { offset, length } of layer.extents(0, end)) {
      await pause();
      if (length === 0) continue;
      if (offset > at) yield { offset: at, length: offset - at, allocated: false };
      yield { offset, length, allocated: true };
      at = offset + length;
    }
    if (at < end) yield { offset: at, length: end - at, allocated: false };
  } finally {
    files.close();
  }
}
