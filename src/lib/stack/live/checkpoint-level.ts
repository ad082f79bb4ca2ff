/**
 * Owns where the checkpoints of an image are in its stack, as its parts are now: squashing or adding layers moves them.
 */
import type { Checkpoint } from "../part.ts";
import type { StackSpec } from "../spec.ts";

/** A checkpoint of an image: the base with the lowest `level` layers is the image as it was then. */
export interface CheckpointLevel extends Pick<Checkpoint, "name" | "time"> {
  readonly level: number;
}

/** The checkpoints that a stack names, the oldest first. */
export function checkpointLevels(spec: Pick<StackSpec, "layers">): readonly CheckpointLevel[] {
  return spec.layers.flatMap(({ listed }, i) => {
    const { name, time } = listed?.checkpoint ?? {};
    return name === undefined || time === undefined ? [] : [{ name, time, level: i + 1 }];
  });
}

/** What a question about the changes since a checkpoint names; a later one of the same name has another time. */
export interface Since {
  readonly since: string;
  readonly time: string;
}

/** The layers above a checkpoint start at this index; undefined if the image has it no more. */
export function levelOf(checkpoints: readonly CheckpointLevel[], { since, time }: Since): number | undefined {
  return checkpoints.find((each) => each.name === since && each.time === time)?.level;
}
