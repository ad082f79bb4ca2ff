/**
 * Owns the checks of a layer before it is merged: problems that make it unsafe, and data that would not be merged.
 */
import type { OperationContext } from "../../context.ts";
import { CowError, shellWord } from "../../errors.ts";
import { checkWithoutContent } from "../../formats/cowfile/check.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { findUnmarkedData, type UnmarkedData } from "../../formats/cowfile/unmarked-data.ts";
import type { Layer } from "../../formats/format.ts";

/** @throws CowError `damaged` with the first problem that makes merging unsafe, unless `force`; notices for the rest */
export async function requireSound(layer: CowfileLayer, force: boolean, context: OperationContext): Promise<void> {
  for (const problem of await checkWithoutContent(layer.source, { signal: context.signal })) {
    if (problem.id === "dirty" || problem.severity === "note") continue;
    if (problem.severity === "error" && !force) {
      throw new CowError("damaged", problem.message, {
        file: layer.name,
        details: { problem: problem.id, offset: problem.offset, length: problem.length },
        hints: [`\`cowtool check ${shellWord(layer.name)}\` lists everything, --force merges what is there`],
      });
    }
    context.onNotice?.({ severity: "warning", file: layer.name, message: problem.message });
  }
}

/** The same for a layer of any format. @throws CowError `damaged`; `unsuitable` for one with a warning, unless `force` */
export async function requireUndoubted(layer: Layer, force: boolean, context: OperationContext): Promise<void> {
  if (layer instanceof CowfileLayer) return requireSound(layer, force, context);
  const [doubt] = layer.warnings ?? [];
  if (doubt === undefined || force) return;
  throw new CowError("unsuitable", doubt, {
    file: layer.name,
    hints: ["--force merges it anyway, --output FILE leaves the base unchanged"],
  });
}

/** Data in unallocated blocks of a cowfile. Other formats have none. @throws CowError `io`, `interrupted` */
async function unmarkedIn(layer: Layer, context: OperationContext): Promise<UnmarkedData> {
  if (!(layer instanceof CowfileLayer)) return { blocks: 0, firstBlock: undefined };
  return findUnmarkedData(layer.source, layer.opened.geometry, context.signal);
}

/** Reports that such data is left out. @returns how many blocks it is */
export async function noticeUnmarked(layer: Layer, context: OperationContext, done: string): Promise<number> {
  const unmarked = await unmarkedIn(layer, context);
  if (unmarked.blocks > 0)
    context.onNotice?.({
      severity: "warning",
      file: layer.name,
      message: `${unmarkedText(unmarked)}, and ${unmarked.blocks === 1 ? "is" : "are"} not ${done}: \`cowtool repair -f ${shellWord(layer.name)}\` allocates what holds data`,
    });
  return unmarked.blocks;
}

/** The same for several layers. */
export async function noticeUnmarkedOf(layers: readonly Layer[], context: OperationContext, done: string) {
  for (const layer of layers) await noticeUnmarked(layer, context, done);
}

function unmarkedText({ blocks, firstBlock }: UnmarkedData): string {
  return blocks === 1
    ? `block ${firstBlock} holds data, but is not allocated`
    : `${blocks} blocks hold data, but are not allocated (the first is block ${firstBlock})`;
}

/**
 * For a cowfile that will be replaced: the new one has the old one's allocated blocks, and nothing else.
 * @param doing the action that would lose the rest
 */
export async function requireNothingLost(
  lower: CowfileLayer,
  doing: string,
  force: boolean,
  context: OperationContext,
): Promise<void> {
  await requireSound(lower, force, context);
  const unmarked = await unmarkedIn(lower, context);
  if (unmarked.blocks === 0 || force) return;
  throw new CowError("unsuitable", `${unmarkedText(unmarked)}: ${doing} would lose that`, {
    file: lower.name,
    details: { unmarked_blocks: unmarked.blocks, first_block: unmarked.firstBlock ?? 0 },
    hints: [`\`cowtool repair -f ${shellWord(lower.name)}\` allocates what holds data; --force drops it`],
  });
}
