/**
 * Owns replacing a cowfile by a new one in its place, for operations that give it another base. The new file appears whole,
 * with the owner and mode of the old one, or the old one stays as it is.
 */
import type { OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { CowError } from "../errors.ts";
import { CowfileLayer } from "../formats/cowfile/layer.ts";
import { BLOCK_BYTES } from "../formats/cowfile/layout.ts";
import { openAsLayer } from "../stack/open-part.ts";
import { parsePart } from "../stack/part.ts";
import { howToOpen, type OpenFiles } from "./files.ts";
import { type CowfileJob, type MadeCowfile, makeClaimed } from "./new-cowfile.ts";

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
export function replaceCowfile(
  files: OpenFiles,
  { path, layer }: OwnCowfile,
  { device: base, paths: basePaths }: NewBase,
  job: Pick<CowfileJob, "view" | "held" | "phase" | "rdoBlocks"> & { readonly inputs: readonly string[] },
  context: OperationContext,
): Promise<MadeCowfile> {
  const { abi } = layer.opened.head;
  const baseBlocks = Math.floor(base.sizeBytes / BLOCK_BYTES);
  const over = { abi, base, basePaths, baseBlocks, inputs: [path, ...job.inputs] };
  return makeClaimed(files, { ...job, ...over, output: path, allowed: { force: true } }, context);
}
