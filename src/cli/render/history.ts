/**
 * Owns what people read of checkpoints, rollbacks, forks and squashes of a stack file.
 */
import type { CheckpointResult } from "../../lib/operations/history/checkpoint.ts";
import type { DropResult } from "../../lib/operations/history/drop.ts";
import type { ForkResult } from "../../lib/operations/history/fork.ts";
import type { RollbackResult } from "../../lib/operations/history/rollback.ts";
import type { SquashChainResult } from "../../lib/operations/history/squash-chain.ts";
import { type KeyValue, renderKeyValue } from "./key-value.ts";

/** Several values under one name. */
function listed(name: string, values: readonly string[]): readonly KeyValue[] {
  return values.map((value, i) => [i === 0 ? name : "", value]);
}

export function checkpointSummary(result: CheckpointResult): string {
  const { stack, checkpoint, time, note, frozen, top } = result;
  return renderKeyValue([
    ["checkpoint", `${checkpoint}${result.already_done ? ", made before: nothing was written since" : ""}`],
    ["stack file", stack],
    ["time", time],
    ["note", note ?? undefined],
    ["frozen", frozen],
    ["new top", top],
  ]);
}

export function rollbackSummary(result: RollbackResult): string {
  const { stack, checkpoint, top, kept, removed, left, discarded, already_done } = result;
  return renderKeyValue([
    ["stack file", stack],
    ["is as of", `${checkpoint}${already_done ? ", as it was before: nothing was written since" : ""}`],
    [already_done ? "top" : "new top", top],
    ["kept", kept === null ? undefined : `${kept} names the layers as they were`],
    ...listed("discarded", discarded),
    ...listed("removed", removed),
    ...listed("in use", left),
  ]);
}

export function forkSummary({ stack, checkpoint, fork, cowfile, already_done }: ForkResult): string {
  return renderKeyValue([
    ["stack file", `${fork}${already_done ? ", made before" : ""}`],
    ["cowfile", cowfile],
    ["forked from", `${stack}, checkpoint ${checkpoint}`],
  ]);
}

export function dropSummary({ stack, checkpoint, layer }: DropResult): string {
  return renderKeyValue([
    ["stack file", stack],
    ["dropped", checkpoint],
    ["layer", `${layer}, which stays without a name`],
  ]);
}

export function squashChainSummary({ stack, squashed, removed, left }: SquashChainResult): string {
  return renderKeyValue([
    ["stack file", stack],
    ["squashed", squashed.length === 0 ? "nothing: no neighbouring layers without a name" : undefined],
    ...squashed.flatMap(({ output, checkpoint, layers, dropped }): readonly KeyValue[] => [
      ["squashed", `${layers.join(", ")}`],
      ["  into", `${output}${checkpoint === null ? "" : `, checkpoint ${checkpoint}`}`],
      ...listed("  dropped", dropped),
    ]),
    ...listed("removed", removed),
    ...listed("in use", left),
  ]);
}
