/**
 * Owns `resize`: a cowfile's image gets another size, and keeps what it shows. Its base stays as it is: beyond that the image
 * reads as zeros. A new cowfile takes the place of the old one, so that an interruption leaves one or the other; the same
 * command then completes the work.
 */
import { type Extent, inOrder, within } from "../bytes/extent.ts";
import { formatSize } from "../bytes/size.ts";
import { interrupted, makePause, type OperationContext } from "../context.ts";
import { CowError, shellWord } from "../errors.ts";
import { fingerprint32 } from "../formats/cowfile/head.ts";
import { cowfileFormat } from "../formats/cowfile/index.ts";
import type { CowfileLayer } from "../formats/cowfile/layer.ts";
import { BLOCK_BYTES, DRIVER_BLOCK_LIMIT, maxBlocks } from "../formats/cowfile/layout.ts";
import { CowfileWriter } from "../formats/cowfile/writer.ts";
import { detectFormat } from "../formats/registry.ts";
import { totalLength } from "../formats/walk-extents.ts";
import { readSidecar, type Sidecar, writeSidecar } from "../notes/sidecar.ts";
import { writeImage } from "../output/write-image.ts";
import { parsePart } from "../stack/part.ts";
import { OpenFiles } from "./files.ts";
import { forgetOld, noteOrWarn } from "./identity/take.ts";
import { requireNothingLost } from "./merge/doubts.ts";
import { type OwnCowfile, openOwnCowfile } from "./replace-cowfile.ts";

/** What `resize` is asked for. */
export interface ResizeRequest {
  /** The new size of the image in bytes, in whole blocks of 1024 bytes. */
  readonly sizeBytes?: number | undefined;
  /** Instead: how many bytes are added to it. */
  readonly addBytes?: number | undefined;
  /** Allow a smaller size: what is beyond it is lost. */
  readonly shrink?: boolean | undefined;
  readonly dryRun?: boolean | undefined;
  /** Override the checks: problems of the cowfile, a merge of it that was begun. */
  readonly force?: boolean | undefined;
}

/** What `resize` did, or with `dryRun` would do. */
export interface ResizeResult {
  readonly cowfile: string;
  readonly virtual_size_before: number;
  readonly virtual_size: number;
  readonly rdo_blocks: number;
  /** Blocks of the base that the cowfile was made for: the image may be longer or shorter. */
  readonly base_blocks: number;
  /** Allocated before. */
  readonly blocks_before: number;
  /** Allocated afterwards. */
  readonly blocks_used: number;
  /** Allocated blocks beyond a smaller size, which are lost. */
  readonly blocks_dropped: number;
  /** It has that size already: nothing was written. */
  readonly already_done: boolean;
  readonly dry_run: boolean;
}

/** Who decides about the size of images of other formats. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  "dm-cow": "the table line says how long the image is",
  "dm-snapshot": "a store shows an image of its origin's size: a larger origin makes it larger",
  lvm: "lvextend and lvreduce resize a logical volume",
  qcow2: "`qemu-img resize` does it",
  raw: "`truncate -s SIZE FILE` does it; layers over FILE then no longer fit",
  snap: "a log set shows an image of its source's size",
};

/**
 * Resizes the image of `cowfile`, in place.
 *
 * @throws CowError `usage` (no whole blocks; smaller without `shrink`), `unsuitable` (too large for the ABI), `unsupported` (no
 *   unpacked cowfile), `pending-merge` (a merge of it was begun), `dirty`, `damaged`, `locked`, `no-space`, `io`, `interrupted`
 */
export async function resize(
  cowfile: string,
  request: ResizeRequest,
  context: OperationContext = {},
): Promise<ResizeResult> {
  const { dryRun = false, force = false } = request;
  return OpenFiles.during(context, async (files) => {
    refuseOtherFormats(files, cowfile);
    const own = await openOwnCowfile(files, cowfile, { dryRun, force }, context);
    const { layer } = own;
    const target = sizeOf(layer, request);
    const pause = makePause(context.signal, () => interrupted(own.path, "nothing was changed"));
    const count = async (from: number, to: number): Promise<number> =>
      (await totalLength(within(layer.extents(from, to), from, to), pause)) / BLOCK_BYTES;
    const end = layer.virtualSizeBytes;
    const [kept, dropped] = [await count(0, Math.min(end, target)), await count(Math.min(end, target), end)];
    if (target < end && !request.shrink)
      throw new CowError("usage", `is larger: ${formatSize(end)}; allocated blocks beyond the new end: ${dropped}`, {
        file: cowfile,
        details: { virtual_size: end, blocks_dropped: dropped },
        hints: ["--shrink makes it smaller; what is beyond the new end is lost"],
      });
    const facts = {
      cowfile,
      virtual_size_before: end,
      virtual_size: target,
      rdo_blocks: target / BLOCK_BYTES,
      base_blocks: Number(layer.base.blocks),
      blocks_before: kept + dropped,
      blocks_dropped: dropped,
      already_done: target === end,
      dry_run: dryRun,
    };
    if (target === end) return { ...facts, blocks_used: kept };
    noticeLimit(layer, target, context);
    await requireNothingLost(layer, "a new cowfile in its place", force, context);
    const record = readSidecar(files.storage, own.path, layer.base);
    refuseBegunMerge(own.path, record, force);
    if (!dryRun) await rewrite(files, own, target, record, context);
    const hidden = hiddenPart(layer, target);
    return { ...facts, blocks_used: kept + (hidden ? hidden.length / BLOCK_BYTES : 0) };
  });
}

function refuseOtherFormats(files: OpenFiles, cowfile: string): void {
  const { path, format } = parsePart(cowfile);
  const file = files.open(path, { lock: "none" });
  const found = typeof format === "object" ? format : detectFormat(file);
  if (found === cowfileFormat) return;
  const { id, title } = found ?? { id: "raw", title: "raw image" };
  const way = ELSEWHERE[id];
  throw new CowError("unsupported", `is a ${title}: only the image of a cowfile is resized`, {
    file: cowfile,
    hints: way === undefined ? [] : [way],
  });
}

/** @returns bytes of the image afterwards */
function sizeOf({ virtualSizeBytes, opened, name }: CowfileLayer, { sizeBytes, addBytes = 0 }: ResizeRequest): number {
  const wanted = sizeBytes ?? virtualSizeBytes + addBytes;
  const blocks = Math.floor(wanted / BLOCK_BYTES);
  const { abi } = opened.head;
  if (blocks * BLOCK_BYTES !== wanted)
    throw new CowError("usage", `${wanted} bytes are no whole number of blocks of ${BLOCK_BYTES}`, {
      file: name,
      hints: [`the next size is ${(blocks + 1) * BLOCK_BYTES}`],
    });
  if (blocks === 0)
    throw new CowError("usage", "cannot be resized to nothing: a cowfile has one block at least", { file: name });
  if (blocks <= maxBlocks(abi)) return wanted;
  throw new CowError(
    "unsuitable",
    `cannot have ${blocks} blocks: a cowfile of ABI ${abi} has at most ${maxBlocks(abi)}`,
    {
      file: name,
    },
  );
}

function noticeLimit({ name }: CowfileLayer, target: number, { onNotice }: OperationContext): void {
  if (target / BLOCK_BYTES < DRIVER_BLOCK_LIMIT) return;
  const message = "will have 4 TiB or more: cowtool handles that, the original driver's block count wraps";
  onNotice?.({ severity: "warning", file: name, message });
}

/** A merge is resumed with the cowfile that it was begun with, and with no other. */
function refuseBegunMerge(path: string, record: Sidecar, force: boolean): void {
  if (force || record.state !== "own" || !record.record.merged) return;
  throw new CowError("pending-merge", "is being merged into its base, or was: resized, it could not complete that", {
    file: path,
    hints: [`\`cowtool merge BASE ${shellWord(path)}\` completes a merge; --force resizes all the same`],
  });
}

/**
 * Where the base would show in the part that is new: zeros are allocated there, which take no space. The base may have a part of
 * a block more than the whole ones that the head counts.
 */
function hiddenPart(layer: CowfileLayer, target: number): Extent | undefined {
  const from = layer.virtualSizeBytes;
  const to = Math.min(target, (Number(layer.base.blocks) + 1) * BLOCK_BYTES);
  return from < to ? { offset: from, length: to - from } : undefined;
}

async function rewrite(
  files: OpenFiles,
  { layer, path }: OwnCowfile,
  target: number,
  record: Sidecar,
  context: OperationContext,
): Promise<void> {
  const { head } = layer.opened;
  const end = Math.min(layer.virtualSizeBytes, target);
  const view = { places: (from: number, to: number) => (from < end ? layer.places(from, Math.min(to, end)) : []) };
  const hidden = hiddenPart(layer, target);
  const held = inOrder(within(layer.extents(0, end), 0, end), hidden ? [hidden] : []);
  const rdoBlocks = target / BLOCK_BYTES;
  const baseBlocks = Number(layer.base.blocks);
  await files.write(path, [path], { force: true }, async (file) => {
    const writer = new CowfileWriter(file, { abi: head.abi, rdoBlocks, baseBlocks, fingerprint: fingerprint32(head) });
    const stopped = () => interrupted(path, "it is as it was");
    await writeImage({ view, sizeBytes: target, held, writer, target: file, phase: "resizing", stopped }, context);
    forgetOld(files.storage, path, context);
  });
  // Its base is the same as before.
  if (record.state !== "own") return;
  const note = { ...record.record, cowfile: layer.base };
  noteOrWarn(files.storage, path, context, () => writeSidecar(files.storage, path, note));
}
