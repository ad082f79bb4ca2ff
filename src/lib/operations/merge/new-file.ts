/**
 * Owns merging into a new image (`merge -o`): a reflink of the base where the file system can, a sparse copy otherwise,
 * with the cowfile's blocks over it. Both inputs are only read; the image appears whole, or not at all.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { complement, type Extent, intersect, subtract } from "../../bytes/extent.ts";
import { interrupted, makeBreath, type OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { Copier } from "../../device/copy.ts";
import { cloneFile } from "../../device/sys/kernel-copy.ts";
import { cowfileFormat } from "../../formats/cowfile/index.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { requireBelongs } from "../../overlay/stack.ts";
import { claimOutput, type OpenFiles, refuseSameFile } from "../files.ts";
import { requireSameContent } from "../identity/merge-guard.ts";
import { refuseCowfileAsBase, requireSize, requireSound } from "./admission.ts";
import { refusePendingMerge } from "./journal-places.ts";
import type { MergeRequest, MergeResult } from "./request.ts";
import { countBlocks, PIECE_BYTES } from "./write-blocks.ts";

const ZEROS = new Uint8Array(1 << 20);

/** @throws CowError as merge() */
export async function mergeIntoNewFile(
  files: OpenFiles,
  inputs: { readonly rdofile: string; readonly cowfile: string; readonly output: string },
  request: MergeRequest,
  context: OperationContext,
): Promise<MergeResult> {
  const { rdofile, cowfile, output } = inputs;
  const force = request.force ?? false;
  refuseSameFile(files.storage, output, [rdofile, cowfile]);
  const base = files.open(rdofile, { lock: "shared" });
  const cow = files.open(cowfile, { lock: "shared" });
  refuseCowfileAsBase(base, force);
  if (!force) refusePendingMerge(files.storage, rdofile, [cowfile, output]);
  const layer = new CowfileLayer(await cowfileFormat.readable(cow, () => files.scratch(cowfile)), {
    allowDirty: force,
  });
  requireSize(layer, base, force);
  await requireSound(layer, force, context);
  if (!force) await requireBelongs(layer, base, context.signal);
  await requireSameContent(files.storage, { base, rdofile, layer, cowfile }, { refuse: false }, context);
  claimOutput(files, output, request.replaceOutput ?? force);
  const bytes = countBlocks(layer) * BLOCK_BYTES;
  const dryRun = request.dryRun ?? false;
  if (!dryRun)
    await writeImage(files, { base, layer, output, total: bytes, replace: request.replaceOutput ?? force }, context);
  return {
    rdofile,
    cowfile,
    mode: "new-file",
    output,
    blocks_merged: bytes / BLOCK_BYTES,
    bytes_merged: bytes,
    dry_run: dryRun,
    resumed: false,
    taken_back: false,
    already_merged: false,
    undo: null,
    fingerprint_changed: false,
  };
}

interface ImageJob {
  readonly base: BlockDevice;
  readonly layer: CowfileLayer;
  readonly output: string;
  /** Bytes of the layer, for progress. */
  readonly total: number;
  readonly replace: boolean;
}

async function writeImage(
  files: OpenFiles,
  { base, layer, output, total, replace }: ImageJob,
  context: OperationContext,
): Promise<void> {
  const pending = files.storage.create(output);
  const target = pending.device;
  const breath = makeBreath();
  let done = 0;
  const copy = async (source: ByteSource, parts: Iterable<Extent>, shift: number, phase: string): Promise<void> => {
    const copier = new Copier();
    for (const { offset, length } of parts) {
      for (let at = offset; at < offset + length; at += PIECE_BYTES) {
        const piece = Math.min(PIECE_BYTES, offset + length - at);
        copier.copy({ source, sourceOffset: at + shift, target, targetOffset: at, length: piece });
        done += piece;
        if (context.signal?.aborted) throw interrupted(output, "it was not created, and the inputs are as they were");
        context.onProgress?.({ phase, done, total: Math.max(done, total), unit: "bytes" });
        await breath();
      }
    }
  };
  try {
    const cloned = base.fd !== undefined && target.fd !== undefined && cloneFile(base.fd, target.fd);
    const end = base.sizeBytes;
    target.resize(end);
    const shift = layer.locate(0);
    const held = (): Iterable<Extent> => layer.extents(0, layer.virtualSizeBytes);
    const heldData = (): Iterable<Extent> =>
      intersect(held(), shifted(layer.source.dataExtents(shift, shift + layer.virtualSizeBytes), -shift));
    // What the layer hides of the base need not be copied first.
    if (!cloned)
      await copy(base, intersect(complement(held(), 0, end), base.dataExtents(0, end)), 0, "copying the base");
    await copy(layer.source, heldData(), shift, "merging");
    // Marked blocks that are holes in the cowfile are zeros: in a fresh image they stay holes.
    if (cloned) for (const { offset, length } of subtract(held(), heldData())) writeZeros(target, offset, length);
    pending.commit({ replace });
  } finally {
    pending.abandon();
  }
}

function* shifted(extents: Iterable<Extent>, by: number): Generator<Extent> {
  for (const { offset, length } of extents) yield { offset: offset + by, length };
}

function writeZeros(target: BlockDevice, offset: number, length: number): void {
  if (target.punchHole(offset, length)) return;
  for (let at = 0; at < length; at += ZEROS.length)
    target.write(ZEROS.subarray(0, Math.min(ZEROS.length, length - at)), offset + at);
}
