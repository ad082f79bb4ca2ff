/**
 * Owns `squash` of a stack file that no server has: neighbouring frozen layers become one, the stack file names that, and the
 * old ones are removed.
 */
import type { OperationContext } from "../../context.ts";
import type { CowAbi } from "../../formats/cowfile/layout.ts";
import { announced, checkpointNames, type LayerRange, rangeOf, squashed, unnamedRuns } from "../../stack/chain.ts";
import { formatIn } from "../../stack/part.ts";
import type { HeldStackFile } from "../../stack/stack-file.ts";
import { OpenFiles } from "../files.ts";
import { squashLayers } from "../squash.ts";
import { shownPath } from "./checkpoint.ts";
import { holdChain, specOf, takeUp } from "./hold.ts";
import { newLayerOf } from "./new-top.ts";

/** What `squash` of a stack file is asked for. */
export interface SquashChainRequest {
  /** `FROM..TO`: the layers above checkpoint FROM up to and including TO. Either may be missing. Default: what has no name. */
  readonly range?: { readonly from?: string | undefined; readonly to?: string | undefined } | undefined;
  readonly abi?: CowAbi;
  /** Take layers whose base was changed. */
  readonly force?: boolean;
}

/** Layers that are one now. */
export interface SquashedRun {
  /** The cowfile that has all of their blocks. */
  readonly output: string;
  /** Its checkpoint; null if it has no name. */
  readonly checkpoint: string | null;
  readonly layers: readonly string[];
  /** Checkpoints that went. */
  readonly dropped: readonly string[];
}

/** What `squash` of a stack file did. */
export interface SquashChainResult {
  readonly stack: string;
  /** None if there was nothing to be joined. */
  readonly squashed: readonly SquashedRun[];
  /** Files that are no longer layers, and were removed. */
  readonly removed: readonly string[];
  /** Files that are to be removed once no process has them open. */
  readonly left: readonly string[];
}

/** `FROM..TO` of a stack file, as it is typed in the place of an output; undefined for the name of a cowfile. */
export function rangeIn(stack: string, text: string | undefined): SquashChainRequest["range"] {
  const { isStackFile } = formatIn(stack);
  const [, from, to] = isStackFile || stack.endsWith(".stack") ? (/^([^/]*?)\.\.([^/]*)$/.exec(text ?? "") ?? []) : [];
  if (from === undefined || to === undefined) return undefined;
  return { ...(from !== "" && { from }), ...(to !== "" && { to }) };
}

/**
 * Squashes frozen layers of a stack file. Without a range no checkpoint is lost. Interrupted anywhere, the same call
 * completes it.
 *
 * @throws CowError `not-found`, `usage` for a range that is none; as squash() and checkpoint()
 */
export async function squashChain(
  stackFile: string,
  request: SquashChainRequest = {},
  context: OperationContext = {},
): Promise<SquashChainResult> {
  return OpenFiles.during(context, async (files) => {
    const held = holdChain(files, stackFile, "squash NAME", context);
    const { document } = held;
    const ranges = request.range ? [rangeOf(document, request.range, held.name)] : unnamedRuns(document);
    for (const part of specOf(held).layers) takeUp(files.storage, part, context);
    const done: SquashedRun[] = [];
    // From the top, so that the numbers of those below stay.
    for (const range of [...ranges].reverse())
      if (range.to > range.from) done.unshift(await squashRun(files, held, range, request, context));
    const gone = held.removeGone(context.onNotice);
    const shown = (file: string): string => shownPath(held, file);
    const left = (held.document.to_remove ?? []).map(shown);
    return { stack: held.name, squashed: done, removed: gone.map(shown), left };
  });
}

async function squashRun(
  files: OpenFiles,
  held: HeldStackFile,
  range: LayerRange,
  { abi, force }: SquashChainRequest,
  context: OperationContext,
): Promise<SquashedRun> {
  const name = held.document.layers[range.to]?.checkpoint?.name;
  const { output, stored } = newLayerOf(files, held, name ?? "squashed");
  const how = { from: range.from + 1, to: range.to + 1, force: force ?? false, ...(abi && { abi }) };
  held.replace(announced(held.document, stored));
  // Closed at once: the old layers are removed under an exclusive lock.
  await OpenFiles.during(context, (inner) => squashLayers(inner, specOf(held), output, how, {}, context));
  const { document, gone } = squashed(held.document, range, stored);
  held.replace(document);
  return {
    output: shownPath(held, stored),
    checkpoint: name ?? null,
    layers: gone.map(({ file }) => shownPath(held, file)),
    dropped: checkpointNames({ layers: gone }).filter((each) => each !== name),
  };
}
