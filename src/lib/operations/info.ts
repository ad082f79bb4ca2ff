/**
 * Owns `info`: the facts about a file. Reads metadata only and changes nothing.
 */

import type { Extent } from "../bytes/extent.ts";
import { interrupted, makePause, type OperationContext, type Pause } from "../context.ts";
import type { ImageFacts, Layer, Problem } from "../formats/format.ts";
import { formatOfPart, openAsLayer } from "../stack/open-part.ts";
import { parsePart } from "../stack/spec.ts";
import { type GivenStack, notesOfServer, OpenFiles } from "./files.ts";

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

export interface InfoResult extends ImageFacts {
  readonly file: string;
  readonly file_size: number;
  readonly allocated_size: number;
}

export interface Info {
  readonly facts: InfoResult;
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
 * Describes `file`.
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
  const opened = files.openPart(parsePart(file), { lock: options.forceShare ? "none" : "shared" });
  const { file: device } = opened;
  const format = formatOfPart(opened);
  const below = (await files.openStack(options.rdofile))?.device;
  const notes = notesOfServer(files, opened.part.path);
  const hooks = { ...opened.options, ...notes, below, signal: context.signal };
  const { facts, problems } = await format.describe(device, hooks);
  const judged = below ? await format.judgeBase(device, below, hooks) : [];
  const how = { allowDirty: true, below, signal: context.signal };
  const layer = options.map ? (await openAsLayer(opened, how, () => files.scratch(opened.part.path))).layer : undefined;
  const pause = makePause(context.signal, () => interrupted(file, "nothing was changed"));
  return {
    facts: {
      file,
      ...facts,
      file_size: device.sizeBytes,
      allocated_size: files.storage.facts(opened.part.path)?.allocatedBytes ?? device.sizeBytes,
    },
    problems: {
      *[Symbol.iterator]() {
        yield* judged;
        yield* problems;
      },
    },
    extents: layer ? mapExtents(layer, files, pause) : undefined,
    mapBytes: layer?.virtualSizeBytes ?? facts.virtual_size ?? 0,
    close: () => files.close(),
  };
}

async function* mapExtents(layer: Layer, files: OpenFiles, pause: Pause): AsyncGenerator<MapExtent> {
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
