/**
 * Owns how a merge, or a server, treats a base that has changed under the cowfile since it was recorded, and the mark
 * that a merge leaves in the record.
 */
import type { OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import type { Storage } from "../../device/storage.ts";
import { CowError, shellWord } from "../../errors.ts";
import type { Layer } from "../../formats/format.ts";
import { readSidecar, writeSidecar } from "../../notes/sidecar.ts";
import { type BaseJudgement, changedText, judgeRecorded, showsThrough } from "./judge.ts";
import { noteOrWarn } from "./take.ts";

export interface Merging {
  readonly base: BlockDevice;
  readonly rdofile: string;
  readonly layer: Layer;
  readonly cowfile: string;
}

/**
 * Compares the base with its record, and warns or refuses if it differs.
 *
 * @param at.paths the files that the base is made of; default `rdofile`
 * @param at.hiding what of the base does not show; default the layer
 * @param way as for sayChanged
 * @throws CowError `wrong-base`
 */
export async function requireSameContent(
  storage: Storage,
  at: Merging & { readonly paths?: readonly string[]; readonly hiding?: Pick<Layer, "extents"> },
  way: string | undefined,
  context: OperationContext,
): Promise<void> {
  const { base, rdofile, layer, cowfile, paths = [rdofile], hiding = layer } = at;
  const question = { base, paths, cowfile, identity: layer.base, layer: async () => hiding };
  const judgement = await judgeRecorded(storage, question, context);
  const { ignored } = judgement;
  if (ignored) {
    const message = `the base record is ignored: ${ignored.why}`;
    context.onNotice?.({ severity: "note", file: ignored.path, message });
  }
  sayChanged(judgement, { rdofile, cowfile }, way, context);
}

/**
 * Warns of a base whose change shows, or refuses it. A change in blocks that the cowfile has partly allocated may be
 * another program's merge of it: a warning. A change in other blocks was made by another program.
 *
 * @param way what to do instead; without it, nothing is refused
 * @throws CowError `wrong-base`
 */
export function sayChanged(
  judgement: BaseJudgement,
  { rdofile, cowfile }: Pick<Merging, "rdofile" | "cowfile">,
  way: string | undefined,
  context: OperationContext,
): void {
  if (!showsThrough(judgement)) return;
  const message = changedText(judgement, cowfile);
  const first = judgement.changed.find(({ hidden }) => hidden === "no");
  if (way !== undefined && first)
    throw new CowError("wrong-base", message, {
      file: rdofile,
      details: { offset: first.offset, length: first.length },
      hints: [`\`cowtool verify-fingerprint ${shellWord(rdofile)} ${shellWord(cowfile)}\` lists every change; ${way}`],
    });
  context.onNotice?.({ severity: "warning", file: rdofile, message });
}

/** Written before the first block, and true from then on, also if the merge is taken back. */
export function noteMerge(storage: Storage, { layer, cowfile }: Merging, context: OperationContext): void {
  const sidecar = readSidecar(storage, cowfile, layer.base);
  if (sidecar.state !== "own" || sidecar.record.merged) return;
  const { record } = sidecar;
  noteOrWarn(storage, cowfile, context, () =>
    writeSidecar(storage, cowfile, { ...record, cowfile: layer.base, merged: true }),
  );
}
