/**
 * Owns `merge` for callers: merges a layer into its backing, or writes both as a new image.
 */
import type { OperationContext } from "../../context.ts";
import { refuseOwnName } from "../../device/own-file.ts";
import type { Storage } from "../../device/storage.ts";
import { CowError, shellWord } from "../../errors.ts";
import { requireFormat } from "../../formats/registry.ts";
import { refusePendingMerge } from "../../notes/journal-places.ts";
import { requireFileName } from "../../output/claim.ts";
import { frozenAs, isFrozen, parsePart, type StackPart } from "../../stack/part.ts";
import type { StackSpec } from "../../stack/spec.ts";
import { HeldStackFile, type StackFile } from "../../stack/stack-file.ts";
import { OpenFiles, refuseSameFile } from "../files.ts";
import { mergeAnyLayer } from "./any-layer.ts";
import { giveUp } from "./give-up.ts";
import { mergeInPlace } from "./in-place.ts";
import { type Merged, type MergeRequest, type MergeResult, resultOf } from "./request.ts";

const NEW_IMAGE = "--output FILE writes the result into a new image";

/**
 * Merges `cowfile`, or a layer of any other format, into `rdofile`, or into a new image. Everything is checked before the first write. Interrupted in
 * place (SIGKILL, full disk, signal), the same call completes it.
 *
 * @param cowfile undefined for the topmost layer of the stack `rdofile`, with `output` only. The topmost layer of a stack file
 *   `rdofile` is merged into what is below it, and no longer named there
 * @throws CowError `dirty`, `packed`, `truncated`, `damaged`, `bad-head`, `wrong-base`, `unsuitable`, `pending-merge`,
 *   `exists`, `usage`, `locked`, `no-space`, `permission`, `io`, `declined`, `interrupted`
 */
export async function merge(
  rdofile: string,
  cowfile: string | undefined,
  request: MergeRequest = {},
  context: OperationContext = {},
): Promise<MergeResult> {
  const { output, undo } = request;
  if (request.giveUp && (output !== undefined || undo !== undefined))
    throw new CowError("usage", "--give-up merges nothing: it goes with neither --output nor --undo");
  if (output !== undefined && undo !== undefined) {
    throw new CowError("usage", "--undo goes with a merge in place: with --output the base is not changed");
  }
  if (undo === "") throw new CowError("usage", "--undo needs a file name", { file: "" });
  if (undo !== undefined) {
    requireFileName(undo);
    refuseOwnName(undo);
  }
  return OpenFiles.during(context, async (files) => {
    const { storage } = files;
    const { below, layer, stackFile } = sidesOf(storage, files.stackSpec(rdofile), cowfile, output);
    if (undo !== undefined) refuseSameFile(storage, undo, below.with(layer).files);
    if (output === undefined) requireWritableTarget(storage, below.top);
    if (output === undefined && stackFile) refuseFrozen(layer, "is never removed from it");
    const held =
      stackFile && output === undefined ? files.keep(HeldStackFile.hold(storage, stackFile, context)) : undefined;
    const named = cowfile === undefined ? { rdofile: below.text, cowfile: layer.text } : { rdofile, cowfile };
    const bare = { rdofile: below.base.path, cowfile: layer.path };
    if (request.giveUp)
      return resultOf({ ...bare, output: bare.rdofile }, request, await giveUp(files, bare, request, context));
    // If the cowfile of an interrupted merge is gone, the merge journal says what to do.
    if (!storage.facts(layer.path)) refusePendingMerge(storage, below.base.path, [layer.path], request.force);
    const simple = isCowfileOverImage(files, below, layer) ? bare : undefined;
    if (simple && output === undefined) {
      const done = await mergeInPlace(files, simple, request, context);
      forgetTop(held, layer, done, request, context);
      return resultOf({ ...simple, output: simple.rdofile }, request, done);
    }
    const done = await mergeAnyLayer(files, { ...named, below, layer, simple }, request, context);
    forgetTop(held, layer, done, request, context);
    return resultOf({ ...named, output: output ?? below.top.path }, request, done);
  });
}

interface Sides {
  readonly below: StackSpec;
  readonly layer: StackPart;
  /** It names the layer as its topmost one. */
  readonly stackFile?: StackFile | undefined;
}

/** What is merged, into what. @throws CowError `usage` if that is not said */
function sidesOf(storage: Storage, spec: StackSpec, cowfile: string | undefined, output: string | undefined): Sides {
  const { stackFile, top } = spec;
  const ofStack = (): Sides => ({ below: spec.below, layer: top, stackFile });
  if (cowfile !== undefined) {
    const layer = parsePart(cowfile);
    const identity = storage.facts(layer.path)?.identity;
    const isTop = stackFile && spec.layers.length > 0 && identity === storage.facts(top.path)?.identity;
    return isTop && identity !== undefined ? ofStack() : { below: spec, layer };
  }
  if (output !== undefined && spec.layers.length > 0) return ofStack();
  // Run again, it would merge one layer more.
  throw new CowError("usage", `which layer is to be merged into "${spec.text}"?`, {
    hints:
      spec.layers.length > 0
        ? [`${shellWord(spec.text)} ${shellWord(top.text)} merges the topmost one, --output FILE all into a new image`]
        : ["see `cowtool merge --help`"],
  });
}

/** @throws CowError `usage` for an export, `unsuitable` for a checkpoint */
function requireWritableTarget(storage: Storage, target: StackPart): void {
  if (storage.facts(target.path)?.kind === "remote")
    throw new CowError("usage", "is an export of an NBD server: only local files and block devices are merged into", {
      file: target.path,
      hints: [NEW_IMAGE],
    });
  refuseFrozen(target, "is never written");
}

function refuseFrozen(part: StackPart, so: string): void {
  if (isFrozen(part))
    throw new CowError("unsuitable", `is ${frozenAs(part)}, and ${so}`, { file: part.path, hints: [NEW_IMAGE] });
}

/** The merged layer is redundant, and no longer fits: a stack file does without it. */
function forgetTop(
  held: HeldStackFile | undefined,
  layer: StackPart,
  { takenBack }: Merged,
  { dryRun }: MergeRequest,
  { onNotice }: OperationContext,
): void {
  if (!held || dryRun || takenBack) return;
  held.replace({ ...held.document, layers: held.document.layers.slice(0, -1) });
  onNotice?.({ severity: "note", file: held.name, message: `no longer names ${layer.path}, which is merged` });
}

/** Is it a cowfile over an image? Only such merges have fingerprints, a merge journal and undo files. */
function isCowfileOverImage(files: OpenFiles, { base, layers }: StackSpec, { format, path }: StackPart): boolean {
  if (layers.length > 0 || (base.format !== undefined && base.format !== "raw") || format === "raw") return false;
  // The cowfile's codec reports files of no format. The merge itself locks the file.
  return (format ?? requireFormat(files.open(path, { lock: "none" }))).recordsBase ?? false;
}
