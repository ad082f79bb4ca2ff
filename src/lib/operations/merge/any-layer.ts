/**
 * Owns merging layers that the merge of cowfiles into images does not know: layers of other formats, and stacks below a
 * layer. In place
 * - a dm-snapshot store is emptied into its origin as the kernel does it (store.ts);
 * - what any other layer holds is written over the base, and the layer stays as it is: the view is the same before, while and
 *   after, so that the same command writes it all again after an interruption;
 * - a layer over a cowfile goes into that, which is replaced as a whole.
 */
import { readZeroFilled } from "../../bytes/byte-source.ts";
import { interrupted, makePause, type OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { CowError } from "../../errors.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import type { Layer } from "../../formats/format.ts";
import { totalLength } from "../../formats/walk-extents.ts";
import { formatOfPart, openAsLayer } from "../../overlay/open-part.ts";
import { heldBy, Overlay } from "../../overlay/overlay.ts";
import { requireBelongs, stackOf } from "../../overlay/stack.ts";
import { parsePart, type StackPart } from "../../overlay/stack-part.ts";
import { claimOutput, type OpenFiles, refusePending, refuseSameFile } from "../files.ts";
import { fillCowfile } from "../fill-cowfile.ts";
import { forgetOld } from "../identity/take.ts";
import { belowLayer } from "../squash.ts";
import { fillImage } from "./fill-image.ts";
import type { MergeRequest, MergeResult } from "./request.ts";
import { mergeStore } from "./store.ts";

const PIECE_BYTES = 1 << 20;

export interface AnyMerge {
  /** As given. */
  readonly rdofile: string;
  readonly cowfile: string;
  /** Base and layers below the one that is merged. */
  readonly parts: readonly string[];
}

/** What was merged: how many units of the layer, and how many bytes. */
interface Merged {
  readonly mode: MergeResult["mode"];
  readonly output: string;
  readonly units: number;
  readonly bytes: number;
  readonly already?: boolean;
  readonly fingerprintChanged?: boolean;
}

/** @throws CowError as merge() */
export async function mergeAnyLayer(
  files: OpenFiles,
  merge: AnyMerge,
  request: MergeRequest,
  context: OperationContext,
): Promise<MergeResult> {
  if (request.undo !== undefined)
    throw new CowError("unsupported", "cannot be merged with an undo file: that goes with a cowfile over an image", {
      file: merge.cowfile,
      hints: ["`cowtool invert` keeps what would be overwritten"],
    });
  if (!request.force) refusePending(files, stackOf([...merge.parts, merge.cowfile]), []);
  const done = await (request.output !== undefined
    ? intoNewImage(files, merge, { ...request, output: request.output }, context)
    : merge.parts.length > 1
      ? intoCowfile(files, merge, request, context)
      : intoBase(files, merge, request, context));
  return {
    rdofile: merge.rdofile,
    cowfile: merge.cowfile,
    mode: done.mode,
    output: done.output,
    blocks_merged: done.units,
    bytes_merged: done.bytes,
    dry_run: request.dryRun ?? false,
    resumed: false,
    taken_back: false,
    already_merged: done.already ?? false,
    undo: null,
    fingerprint_changed: done.fingerprintChanged ?? false,
  };
}

async function intoNewImage(
  files: OpenFiles,
  { parts, cowfile }: AnyMerge,
  request: MergeRequest & { readonly output: string },
  context: OperationContext,
): Promise<Merged> {
  const { output, force = false } = request;
  const replace = request.replaceOutput ?? force;
  const stack = await files.openStack(stackOf([...parts, cowfile]));
  const layer = stack.layers.at(-1);
  if (!layer) throw new CowError("usage", "is no layer", { file: cowfile });
  refuseSameFile(files.storage, output, stack.paths);
  claimOutput(files, output, replace);
  const size = await sizeOf(layer, context);
  const merged: Merged = { mode: "new-file", output, ...size };
  if (request.dryRun) return merged;
  const pending = files.storage.create(output);
  try {
    const base = belowLayer(stack, stack.layers.length);
    await fillImage({ base, layer, target: pending.device, output, total: size.bytes }, context);
    pending.commit({ replace });
  } finally {
    pending.abandon();
  }
  return merged;
}

/** How much a layer holds. */
async function sizeOf(
  layer: Layer,
  { signal }: OperationContext,
): Promise<{ readonly units: number; readonly bytes: number }> {
  const pause = makePause(signal, () => interrupted(layer.name, "nothing was changed"));
  const bytes = await totalLength(layer.extents(0, layer.virtualSizeBytes), pause);
  return { units: Math.ceil(bytes / layer.granularityBytes), bytes };
}

/** @throws CowError `unsuitable` for a layer of which something has to be known before it is written over a base */
function requireUndoubted(layer: Layer, request: MergeRequest): void {
  const [doubt] = layer.warnings ?? [];
  if (doubt === undefined || request.force) return;
  throw new CowError("unsuitable", doubt, {
    file: layer.name,
    hints: ["--force merges it all the same, --output FILE leaves the base as it is"],
  });
}

async function intoBase(
  files: OpenFiles,
  { parts, cowfile, rdofile }: AnyMerge,
  request: MergeRequest,
  context: OperationContext,
): Promise<Merged> {
  const { dryRun = false } = request;
  const basePart = parsePart(parts[0] ?? "");
  if (basePart.format !== undefined && basePart.format !== "raw")
    throw new CowError("unsupported", `is read as a ${basePart.format.title}, and not written`, {
      file: basePart.path,
      hints: ["--output FILE writes the result into a new image"],
    });
  const layerPart = parsePart(cowfile);
  refuseSameFile(files.storage, basePart.path, [layerPart.path, ...layerPart.more]);
  const how = dryRun ? ({ lock: "shared" } as const) : ({ writable: true, lock: "exclusive" } as const);
  const base = files.open(basePart.path, how);
  const isStore = idOf(files, layerPart) === "dm-snapshot";
  const opened = files.openPart(cowfile, isStore ? how : { lock: "shared" });
  const { layer } = await openAsLayer(opened, { allowDirty: false, below: base }, () => files.scratch(cowfile));
  refuseSameFile(files.storage, basePart.path, opened.paths);
  await requireBelongs(layer, base, context.signal);
  if (layer.virtualSizeBytes > base.sizeBytes)
    throw new CowError("unsuitable", `is an image of ${layer.virtualSizeBytes} bytes, larger than the base`, {
      file: layer.name,
      hints: ["--output FILE writes the result into a new image"],
    });
  requireUndoubted(layer, request);
  const size = await sizeOf(layer, context);
  const merged: Merged = {
    mode: "in-place",
    output: rdofile,
    ...size,
    already: size.bytes === 0,
    fingerprintChanged: size.bytes > 0,
  };
  if (dryRun) return merged;
  await request.confirm?.({ rdofile, cowfile, blocks: size.units, resumed: false });
  if (isStore) await mergeStore(opened.file, base, context);
  else await writeOver(base, layer, size.bytes, context);
  return merged;
}

/** The format of a part, without locking it. */
function idOf(files: OpenFiles, part: StackPart): string {
  return formatOfPart({ part, file: files.open(part.path, { lock: "none" }) }).id;
}

async function writeOver(base: BlockDevice, layer: Layer, total: number, context: OperationContext): Promise<void> {
  const pause = makePause(context.signal, () => {
    base.flush();
    return interrupted(
      base.name,
      "part of the layer is in it; with the layer over it it shows what it did, and the same command goes on",
    );
  });
  const buffer = new Uint8Array(PIECE_BYTES);
  let done = 0;
  for (const { offset, length, source, at } of layer.places(0, layer.virtualSizeBytes)) {
    if (length === 0) await pause();
    for (let from = 0; from < length; from += PIECE_BYTES) {
      const piece = buffer.subarray(0, Math.min(PIECE_BYTES, length - from));
      readZeroFilled(source, piece, at + from);
      base.write(piece, offset + from);
      done += piece.length;
      context.onProgress?.({ phase: "merging", done, total: Math.max(done, total), unit: "bytes" });
      await pause();
    }
  }
  base.flush();
}

/** The layer goes into the cowfile below it: a new one that holds what both hold, in the place of the old one. */
async function intoCowfile(
  files: OpenFiles,
  { parts, cowfile }: AnyMerge,
  request: MergeRequest,
  context: OperationContext,
): Promise<Merged> {
  const { dryRun = false } = request;
  const under = await files.openStack(stackOf(parts.slice(0, -1)));
  const lowerText = parts.at(-1) ?? "";
  const how = dryRun ? ({ lock: "shared" } as const) : ({ writable: true, lock: "exclusive" } as const);
  const lowerPart = files.openPart(lowerText, how);
  const { path } = lowerPart.part;
  const { layer: lower } = await openAsLayer(lowerPart, { allowDirty: false, below: under.device }, () =>
    files.scratch(path),
  );
  if (!(lower instanceof CowfileLayer) || lower.source !== lowerPart.file)
    throw new CowError(
      "unsupported",
      "is the layer below, and no unpacked cowfile: nothing is merged into it in place",
      {
        file: path,
        hints: [`\`cowtool squash STACK NEW\` makes one of several layers, --output FILE an image of all`],
      },
    );
  await requireBelongs(lower, under.device, context.signal);
  const middle = new Overlay(path, under.base, [...under.layers, lower]);
  const upperPart = files.openPart(cowfile, { lock: "shared" });
  const { layer: upper } = await openAsLayer(upperPart, { allowDirty: false, below: middle }, () =>
    files.scratch(cowfile),
  );
  await requireBelongs(upper, middle, context.signal);
  if (upper.virtualSizeBytes !== lower.virtualSizeBytes)
    throw new CowError("unsuitable", `has another size than ${path}, which a cowfile cannot change`, { file: cowfile });
  refuseSameFile(files.storage, path, [...under.paths, ...upperPart.paths]);
  requireUndoubted(upper, request);
  const size = await sizeOf(upper, context);
  const merged: Merged = { mode: "in-place", output: path, ...size, fingerprintChanged: size.bytes > 0 };
  if (dryRun) return merged;
  await request.confirm?.({ rdofile: path, cowfile, blocks: size.units, resumed: false });
  const pending = files.storage.create(path);
  try {
    const { abi } = lower.opened.head;
    const rdoBlocks = lower.virtualSizeBytes / BLOCK_BYTES;
    const image = new Overlay(path, under.base, [...under.layers, lower, upper]);
    const extents = heldBy([lower, upper], 0, lower.virtualSizeBytes);
    const target = pending.device;
    await fillCowfile({ target, abi, base: under.device, rdoBlocks, image, extents, phase: "merging" }, context);
    forgetOld(files.storage, path, context);
    pending.commit({ replace: true });
  } finally {
    pending.abandon();
  }
  return merged;
}
