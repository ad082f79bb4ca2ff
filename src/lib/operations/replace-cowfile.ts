/**
 * Owns replacing a cowfile by a new one in its place, for operations that give it another base. The new file appears whole,
 * with the owner and mode of the old one, or the old one stays as it is.
 */
import type { OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { CowError } from "../errors.ts";
import { CowfileLayer } from "../formats/cowfile/layer.ts";
import { BLOCK_BYTES } from "../formats/cowfile/layout.ts";
import type { CowfileJob, WrittenCowfile } from "../output/write-cowfile.ts";
import { openAsLayer } from "../stack/open-part.ts";
import { parsePart } from "../stack/part.ts";
import { howToOpen, type OpenFiles } from "./files.ts";
import { noteOrWarn } from "./identity/take.ts";
import { fillCowfile, takeIdentity } from "./new-cowfile.ts";

/** A cowfile to be changed, locked exclusively. */
export interface OwnCowfile {
  readonly path: string;
  readonly file: BlockDevice;
  readonly layer: CowfileLayer;
}

/** @throws CowError `unsupported` for anything but an unpacked cowfile; `dirty`, `locked`, … */
export async function openOwnCowfile(
  files: OpenFiles,
  cowfile: string,
  request: { readonly dryRun?: boolean; readonly force?: boolean },
  { signal }: OperationContext,
): Promise<OwnCowfile> {
  const part = files.openPart(parsePart(cowfile), howToOpen(request));
  const { path } = part.part;
  const { layer } = await openAsLayer(part, { allowDirty: false, signal }, () => files.scratch(path));
  if (layer instanceof CowfileLayer && layer.source === part.file) return { path, file: part.file, layer };
  throw new CowError("unsupported", "is not an unpacked cowfile: only those are changed in place", {
    file: path,
    hints: [
      "`cowtool unpack PACKFILE NEW` makes one of a pack, `cowtool convert STACK NEW --to cowfile` of another layer",
    ],
  });
}

/** The base that the new cowfile is over, and the files that it is made of. */
export interface NewBase {
  readonly device: BlockDevice;
  readonly paths: readonly string[];
}

/** Writes the new cowfile, and its base record. @param inputs every file that is read for it */
export async function replaceCowfile(
  files: OpenFiles,
  { path, layer }: OwnCowfile,
  { device, paths }: NewBase,
  job: Pick<CowfileJob, "view" | "held" | "phase"> & { readonly inputs: readonly string[]; readonly rdoBlocks: number },
  context: OperationContext,
): Promise<WrittenCowfile> {
  const { rdoBlocks, inputs, ...rest } = job;
  const { abi } = layer.opened.head;
  const baseBlocks = Math.floor(device.sizeBytes / BLOCK_BYTES);
  const taken = await takeIdentity(files, { base: device, paths, blocks: baseBlocks }, undefined, context);
  const made = await files.write(path, [path, ...inputs], { force: true }, (target) =>
    fillCowfile(files, { ...rest, target, abi, base: device, rdoBlocks, baseBlocks }, context),
  );
  const identity = { blocks: baseBlocks, blockBytes: BLOCK_BYTES, fingerprint: made.fingerprint };
  if (taken) noteOrWarn(files.storage, path, context, () => taken.write(path, identity));
  return made;
}
