/**
 * Owns the shared settings of a cowfile that is open for writing, and each thread's write order. Separate from opening
 * and closing, which only one thread does: every module that a thread loads costs time.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import { BLOCK_BYTES, mapSizeFor } from "../../formats/cowfile/layout.ts";
import type { LiveStamp } from "../../formats/cowfile/live/stamp.ts";
import type { BaseIdentity } from "../../formats/format.ts";
import { BlockMap } from "./block-map.ts";
import { FlushLogWriter } from "./flush-log-writer.ts";
import { HeadWriter } from "./head-writer.ts";
import { type JournalPlaces, JournalWriter } from "./journal-writer.ts";
import { ResidentLayer } from "./resident-layer.ts";
import { newSharedState, type SharedState } from "./shared-state.ts";
import { SpaceReserve } from "./space-reserve.ts";
import { SpaceUsage } from "./space-usage.ts";
import { WriteOrder } from "./write-order.ts";

/** The settings of an open cowfile besides its descriptors. Can be posted to a worker. */
export interface CowfileConfig extends JournalPlaces {
  /** Its path, for the file system's free space. */
  readonly path: string;
  /** Bytes to keep free there. */
  readonly reserveBytes: number;
  /** Of the image. */
  readonly sizeBytes: number;
  readonly dataOffsetBytes: number;
  readonly blockCount: number;
  readonly mapSizeBytes: number;
  readonly state: SharedState;
  /** Of a SpaceUsage. */
  readonly usage: SharedArrayBuffer;
  readonly dirtyHead: Uint8Array | undefined;
  readonly nonce: Uint8Array;
  /** The stamp in that head; undefined if there is no place for one. */
  readonly stamp: LiveStamp | undefined;
}

/** A cowfile that is being written is not compared with a base again. */
const NO_BASE: BaseIdentity = { blocks: undefined, blockBytes: BLOCK_BYTES, fingerprint: undefined };

/** What all threads need of an open cowfile. */
export interface SharedCowfile {
  readonly cow: BlockDevice;
  /** Undefined for a throw-away layer. */
  readonly journal: BlockDevice | undefined;
  readonly config: CowfileConfig;
}

/** For a layer without head and journal that takes up all of a file. */
export function bareConfig(path: string, sizeBytes: number): CowfileConfig {
  const blockCount = Math.ceil(sizeBytes / BLOCK_BYTES);
  const mapSizeBytes = mapSizeFor(blockCount);
  return {
    path,
    reserveBytes: 0,
    sizeBytes,
    dataOffsetBytes: 0,
    blockCount,
    mapSizeBytes,
    state: newSharedState(mapSizeBytes),
    usage: SpaceUsage.newMemory(0),
    dirtyHead: undefined,
    nonce: new Uint8Array(0),
    stamp: undefined,
    logOffsetBytes: 0,
    logBytes: 0,
    slotsPerHalf: 0,
  };
}

/** The blocks that are allocated, and their quota. */
export function usageOf({ usage, path }: CowfileConfig): SpaceUsage {
  return new SpaceUsage(usage, BLOCK_BYTES, path);
}

/** A cowfile that was open for writing, as a layer that is only read: for one thread. */
export function frozenLayer({ cow, config }: SharedCowfile): ResidentLayer {
  return new ResidentLayer(cow, new BlockMap(config.state.bitmap, config.blockCount), config.dataOffsetBytes, NO_BASE);
}

/** One thread's ordering of writes to an open cowfile. */
export function makeOrder({ cow, journal, config }: SharedCowfile): WriteOrder {
  const { state, nonce, stamp, dirtyHead } = config;
  const { control } = state;
  const map = new BlockMap(state.bitmap, config.blockCount);
  const head = dirtyHead && new HeadWriter(cow, dirtyHead, stamp, control);
  return new WriteOrder({
    cow,
    map,
    layer: frozenLayer({ cow, journal, config }),
    sizeBytes: config.sizeBytes,
    reserve: new SpaceReserve(config.path, config.reserveBytes),
    usage: usageOf(config),
    state,
    head,
    journal: journal && new JournalWriter({ journal, nonce, places: config, control, head }),
    log:
      journal &&
      stamp &&
      new FlushLogWriter(journal, nonce, { offset: config.logOffsetBytes, size: config.logBytes }, state),
    mapSizeBytes: config.mapSizeBytes,
  });
}
