/**
 * Owns assembling one thread's devices into its image of a stack.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import type { Layer } from "../../formats/format.ts";
import { Overlay } from "../overlay.ts";
import type { CheckpointLevel } from "./checkpoint-level.ts";
import { FileWatch } from "./file-watch.ts";
import type { LiveImage } from "./image.ts";
import { LevelReads } from "./level-reads.ts";
import { LiveStackImage } from "./live-stack-image.ts";
import { PlainImage } from "./plain-image.ts";
import type { WritableLayer } from "./writable-layer.ts";

/** The devices of one thread. */
export interface ImageParts {
  readonly name: string;
  readonly base: BlockDevice;
  /** Bottom to top, without the writable one. */
  readonly layers: readonly Layer[];
  /** Where checkpoints are; none by default. */
  readonly checkpoints?: readonly CheckpointLevel[];
  /** The written layer; undefined if nothing is written. */
  readonly top?: WritableLayer | undefined;
  /** Files that another program could cut short: the image watches them. */
  readonly files?: readonly BlockDevice[];
}

/** One thread's image. */
export function assembleImage({ name, base, layers, checkpoints = [], top, files = [] }: ImageParts): LiveImage {
  const reads = new LevelReads(1 + layers.length + (top ? 1 : 0));
  const below = layers.length === 0 ? base : new Overlay(name, base, layers, reads.note);
  const watch = new FileWatch(files);
  const parts = { below, base, layers, checkpoints, watch, reads };
  return top ? new LiveStackImage({ ...parts, top }) : new PlainImage(parts);
}
