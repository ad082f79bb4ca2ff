/**
 * Owns `info`: what a file is and holds. Reads metadata only and changes nothing.
 */
import type { OperationContext } from "../context.ts";
import type { Extent } from "../bytes/extent.ts";
import { CowError } from "../errors.ts";
import type { ImageFacts, Problem } from "../formats/format.ts";
import { requireFormat } from "../formats/registry.ts";
import { OpenFiles } from "./files.ts";

export interface InfoOptions {
  /** A stack to compare the file's idea of its base with. */
  readonly rdofile?: string | undefined;
  /** Also tell where data lies. */
  readonly map?: boolean;
  /** Look although somebody is writing it: what is shown may be out of date at once. */
  readonly forceShare?: boolean;
}

/** A part of the image that the file holds (`allocated`), or that comes from below. */
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
  /** With `map`: covers the whole image, ascending; made while it is read, so read it inside `use`. */
  readonly extents: Iterable<MapExtent> | undefined;
}

/**
 * Opens `file`, hands what is known of it to `use` while it is open, and closes it.
 *
 * @throws CowError `not-found`, `locked`, `bad-head`, `unsupported`, `truncated`, `io`
 */
export async function info<Result>(file: string, options: InfoOptions, context: OperationContext, use: (info: Info) => Promise<Result> | Result): Promise<Result> {
  return OpenFiles.during(context, async (files) => {
    const device = files.open(file, { lock: options.forceShare ? "none" : "shared" });
    const facts = files.storage.facts(file);
    const format = requireFormat(device);
    const { facts: described, problems, layer } = await format.describe(device, { signal: context.signal });
    let judged: readonly Problem[] = [];
    if (options.rdofile !== undefined) {
      const stack = await files.openStack(options.rdofile);
      judged = await format.judgeBase(device, stack.device, { signal: context.signal });
    }
    if (options.map && !layer) throw new CowError("unsuitable", "cannot be mapped: it is packed or its head is beyond use", { file });
    return use({
      facts: { file, ...described, file_size: device.sizeBytes, allocated_size: facts?.allocatedBytes ?? device.sizeBytes },
      problems: { *[Symbol.iterator]() {
          yield* problems;
          yield* judged;
        } },
      extents: options.map && layer ? { [Symbol.iterator]: () => mapExtents(layer.extents(0, layer.virtualSizeBytes), layer.virtualSizeBytes) } : undefined,
    });
  });
}

function* mapExtents(held: Iterable<Extent>, sizeBytes: number): Generator<MapExtent> {
  let at = 0;
  for (const { offset, length } of held) {
    if (offset > at) yield { offset: at, length: offset - at, allocated: false };
    yield { offset, length, allocated: true };
    at = offset + length;
  }
  if (at < sizeBytes) yield { offset: at, length: sizeBytes - at, allocated: false };
}
