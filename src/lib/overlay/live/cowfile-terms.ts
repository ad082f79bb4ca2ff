/**
 * Owns what all threads must know of a cowfile that is open for writing, and each thread's ordering of writes to it. Kept
 * apart from opening and closing, which only one thread does: every module that a thread of the server loads costs time.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import { BlockMap } from "./block-map.ts";
import { JournalWriter } from "./journal-writer.ts";
import type { SharedState } from "./shared-state.ts";
import { WriteOrder } from "./write-order.ts";

/** What every thread needs of an open cowfile besides its descriptors. Can be posted to a worker. */
export interface CowfileTerms {
  readonly name: string;
  /** Where it lies, for its file system's sake. */
  readonly path: string;
  /** What is to be left free there. */
  readonly reserveBytes: number;
  /** Of the image. */
  readonly sizeBytes: number;
  readonly dataOffsetBytes: number;
  readonly blockCount: number;
  readonly mapSizeBytes: number;
  readonly state: SharedState;
  readonly dirtyHead: Uint8Array | undefined;
  readonly nonce: Uint8Array;
  readonly slotsPerHalf: number;
}

/** One thread's ordering of writes to an open cowfile. */
export function makeOrder(terms: CowfileTerms, cow: BlockDevice, journal: BlockDevice | undefined): WriteOrder {
  const control = new Int32Array(terms.state.control);
  return new WriteOrder({
    cow,
    map: new BlockMap(terms.state.bitmap, terms.blockCount),
    state: terms.state,
    dirtyHead: terms.dirtyHead,
    journal: journal && new JournalWriter(journal, terms.nonce, terms.slotsPerHalf, control),
    mapSizeBytes: terms.mapSizeBytes,
  });
}
