/**
 * Owns what takes the writes of a served stack: a cowfile that is open for writing, or a layer that is gone with the server.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import { asLent } from "../../device/borrowed-file.ts";
import type { Storage } from "../../device/storage.ts";
import { BLOCK_BYTES, mapSizeFor } from "../../formats/cowfile/layout.ts";
import type { CowfileConfig } from "./cowfile-config.ts";
import { Control, newSharedState } from "./shared-state.ts";

export interface Top {
  /** Where it lies; undefined for what has no name. */
  readonly path: string | undefined;
  readonly cow: BlockDevice;
  readonly journal: BlockDevice | undefined;
  readonly config: CowfileConfig;
  checkpoint?(): void;
  close(): void;
  /** Closes as a crash would leave it. */
  abandon(): void;
}

/** A layer without head and journal in a file without a name. */
export function throwAway(storage: Storage, name: string, sizeBytes: number): Top {
  const cow = storage.scratch(`${name} (throw-away layer)`);
  const blockCount = Math.ceil(sizeBytes / BLOCK_BYTES);
  const mapSizeBytes = mapSizeFor(blockCount);
  const state = newSharedState(mapSizeBytes);
  new Int32Array(state.control)[Control.CAN_PUNCH] = cow.punchHole(0, 4096) ? 1 : 0;
  const config: CowfileConfig = {
    name: cow.name,
    path: cow.name,
    reserveBytes: 0,
    sizeBytes,
    dataOffsetBytes: 0,
    blockCount,
    mapSizeBytes,
    state,
    dirtyHead: undefined,
    nonce: new Uint8Array(0),
    stamp: undefined,
    logOffsetBytes: 0,
    logBytes: 0,
    slotsPerHalf: 0,
  };
  const close = (): void => cow.close();
  return { path: undefined, cow: asLent(cow), journal: undefined, config, close, abandon: close };
}
