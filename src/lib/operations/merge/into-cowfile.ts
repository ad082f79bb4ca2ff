/**
 * Owns merging a layer into the cowfile below it: a new cowfile with the blocks of both replaces the old one. It
 * appears whole; the same command again finds everything merged and does nothing.
 */
import { subtract, widen } from "../../bytes/extent.ts";
import type { OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import type { Layer } from "../../formats/format.ts";
import { allocatedBy, LayeredImage } from "../../formats/layered-image.ts";
import { readSidecar, writeSidecar } from "../../notes/sidecar.ts";
import { requireBelongs } from "../../stack/open.ts";
import { openAsLayer } from "../../stack/open-part.ts";
import { Overlay } from "../../stack/overlay.ts";
import { howToOpen, type OpenFiles, refuseSameFile } from "../files.ts";
import { requireSameBases } from "../identity/stack-bases.ts";
import { noteOrWarn } from "../identity/take.ts";
import { fillCowfile } from "../new-cowfile.ts";
import { changesFingerprint, holdsAll, sizeOf } from "./already.ts";
import { noticeUnmarked, requireNothingLost, requireUndoubted } from "./doubts.ts";
import type { AnyMerge, Merged, MergeRequest } from "./request.ts";

/** @throws CowError as merge() */
export async function intoCowfile(
  files: OpenFiles,
  { below, layer, cowfile }: AnyMerge,
  request: MergeRequest,
  context: OperationContext,
): Promise<Merged> {
  const { dryRun = false, force = false } = request;
  const under = await files.openStack(below.below, force);
  const lowerPart = files.openPart(below.top, howToOpen(request));
  const { path } = lowerPart.part;
  const options = { allowDirty: false, signal: context.signal };
  const { layer: lower } = await openAsLayer(lowerPart, { ...options, backing: under.device }, () =>
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
  const upperPart = files.openPart(layer, { lock: "shared" });
  const { layer: upper } = await openAsLayer(upperPart, { ...options, backing: middle }, () => files.scratch(cowfile));
  if (upper.virtualSizeBytes !== lower.virtualSizeBytes)
    throw new CowError("unsuitable", `has another size than ${path}, which a cowfile cannot change`, { file: cowfile });
  refuseSameFile(files.storage, path, [...under.paths, ...upperPart.paths]);
  const size = await sizeOf(upper, context);
  // Merged, the layer below may have the fingerprint of another one.
  const already = isHeldBy(lower, upper) && (await holdsAll(upper, middle, context));
  // The file that repair sets aside after a restart has the same base as its cowfile.
  const isSibling = upper.base.fingerprint !== undefined && upper.base.fingerprint === lower.base.fingerprint;
  if ((!already || size.bytes === 0) && !(force && isSibling)) await requireBelongs(upper, middle, context.signal);
  if (!already) {
    const stack = { ...under, spec: below.with(layer), layers: [...under.layers, lower, upper] };
    const pathsOf = () => [...under.paths, ...lowerPart.paths];
    // The cowfile below keeps its base record, and with it what tells of the change.
    await requireSameBases(files, { ...stack, pathsOf }, { from: stack.layers.length, way: undefined }, context);
  }
  await requireUndoubted(upper, force, context);
  const fingerprintChanged = !already && (await changesFingerprint(middle, upper, context));
  const unmarked = await noticeUnmarked(upper, context, "merged");
  const merged = { ...size, already, fingerprintChanged, unmarked };
  if (already) return merged;
  await requireNothingLost(lower, "merging into it", force, context);
  if (dryRun) return merged;
  await request.confirm?.({ rdofile: path, cowfile, blocks: size.units, bytes: size.bytes, resumed: false });
  const inputs = [path, ...under.paths, ...upperPart.paths];
  const sidecar = readSidecar(files.storage, path, lower.base);
  await files.write(path, inputs, { force: true }, async (target) => {
    const { abi } = lower.opened.head;
    const end = lower.virtualSizeBytes;
    const view = new LayeredImage(under.base.name, under.base, [...under.layers, lower, upper]);
    const held = widen(allocatedBy([lower, upper], 0, end), BLOCK_BYTES, end);
    const baseBlocks = Number(lower.base.blocks);
    const rdoBlocks = end / BLOCK_BYTES;
    const job = { target, abi, base: under.device, rdoBlocks, baseBlocks, view, held, phase: "merging" };
    await fillCowfile(files, job, context);
  });
  // Its base is the same as before.
  if (sidecar.state === "own") {
    const record = { ...sidecar.record, cowfile: lower.base };
    noteOrWarn(files.storage, path, context, () => writeSidecar(files.storage, path, record));
  }
  return merged;
}

/** Has the lower layer every part of the upper one? */
function isHeldBy(lower: Layer, upper: Layer): boolean {
  const end = upper.virtualSizeBytes;
  for (const _ of subtract(upper.extents(0, end), lower.extents(0, end))) return false;
  return true;
}
