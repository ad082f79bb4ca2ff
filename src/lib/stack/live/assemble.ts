/**
 * Owns putting one thread's devices together into its image of a stack.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import type { Layer } from "../../formats/format.ts";
import { Overlay } from "../overlay.ts";
import { BlockMap } from "./block-map.ts";
import { type CowfileConfig, makeOrder } from "./cowfile-config.ts";
import { FileWatch } from "./file-watch.ts";
import type { LiveImage } from "./image.ts";
import { LiveCowfileImage } from "./live-cowfile-image.ts";
import { PlainImage } from "./plain-image.ts";
import { SpaceReserve } from "./space-reserve.ts";

/** The devices of one thread. */
export interface ImageParts {
  readonly name: string;
  readonly base: BlockDevice;
  /** Bottom to top, without the writable one. */
  readonly layers: readonly Layer[];
  readonly top:
    | { readonly cow: BlockDevice; readonly journal: BlockDevice | undefined; readonly config: CowfileConfig }
    | undefined;
  /** What of it another program could cut short: the image looks after that. */
  readonly files?: readonly BlockDevice[];
}

/** One thread's image. */
export function assembleImage({ name, base, layers, top, files = [] }: ImageParts): LiveImage {
  const below = layers.length === 0 ? base : new Overlay(name, base, layers);
  const watch = new FileWatch(files);
  if (!top) return new PlainImage(below, base, layers, watch);
  const { config, cow, journal } = top;
  return new LiveCowfileImage({
    cow,
    dataOffsetBytes: config.dataOffsetBytes,
    below,
    base,
    layers,
    map: new BlockMap(config.state.bitmap, config.blockCount),
    state: config.state,
    order: makeOrder(config, cow, journal),
    reserve: new SpaceReserve(config.path, config.reserveBytes),
    sizeBytes: config.sizeBytes,
    watch,
  });
}
