/**
 * Owns assembling one thread's devices into its image of a stack, and giving an image other parts while it is used.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import type { Layer } from "../../formats/format.ts";
import { Overlay } from "../overlay.ts";
import type { CheckpointLevel } from "./checkpoint-level.ts";
import { FileWatch } from "./file-watch.ts";
import type { FrozenTop } from "./frozen-top.ts";
import type { LayerFinder } from "./layer-finder.ts";
import { LevelReads } from "./level-reads.ts";
import { LiveStackImage } from "./live-stack-image.ts";
import { PlainImage, type PlainImageParts } from "./plain-image.ts";
import type { WritableLayer } from "./writable-layer.ts";

/** The devices of one thread. */
export interface ImageParts {
  readonly name: string;
  readonly base: BlockDevice;
  /** Bottom to top, without the writable one. */
  readonly layers: readonly Layer[];
  /** Finds which of the layers shows; undefined for few layers. */
  readonly finder?: LayerFinder | undefined;
  /** Where checkpoints are; none by default. */
  readonly checkpoints?: readonly CheckpointLevel[];
  /** The topmost of `layers`, where it was the top and is not settled. */
  readonly frozen?: FrozenTop | undefined;
  /** The written layer; undefined if nothing is written. */
  readonly top?: WritableLayer | undefined;
  /** Files that another program could cut short: the image watches them. */
  readonly files?: readonly BlockDevice[];
}

/** An image whose parts can be replaced. */
export type AssembledImage = LiveStackImage | PlainImage;

/** One thread's image. */
export function assembleImage(parts: ImageParts): AssembledImage {
  const all = together(parts, new LevelReads(levelsOf(parts)));
  const { top, frozen } = parts;
  return top ? new LiveStackImage({ ...all, top, frozen }) : new PlainImage(all);
}

/** Has a thread's image go on with other parts, between two requests. It stays written, or read only. */
export function replaceParts(image: AssembledImage, parts: ImageParts): void {
  const { top, frozen } = parts;
  image.reads.resize(levelsOf(parts));
  const all = together(parts, image.reads);
  if (image instanceof PlainImage) image.become(all);
  else if (top) image.become({ ...all, top, frozen });
}

function levelsOf({ layers, top }: ImageParts): number {
  return 1 + layers.length + (top ? 1 : 0);
}

function together(
  { name, base, layers, finder, checkpoints = [], files = [] }: ImageParts,
  reads: LevelReads,
): PlainImageParts {
  const below = layers.length === 0 ? base : new Overlay(name, base, layers, { onRead: reads.note, finder });
  return { below, base, layers, checkpoints, watch: new FileWatch(files), reads };
}
