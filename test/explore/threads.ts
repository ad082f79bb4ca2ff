/**
 * Owns the threads of a served image in an exploration: each has its own LiveImage on the shared state, and the requests
 * that it has worked on and not replied to. While one of them stops at a change of a file or at an operation on shared
 * memory, another may run, mostly what would not have to wait for a lock that the first one holds.
 */
import { BLOCK_BYTES } from "../../src/lib/formats/cowfile/layout.ts";
import type { LiveImage } from "../../src/lib/stack/live/image.ts";
import { Control, LOCKS, type SharedState } from "../../src/lib/stack/live/shared-state.ts";
import { WriteOrder } from "../../src/lib/stack/live/write-order.ts";
import type { Change } from "./oracle.ts";

export interface Thread {
  readonly name: string;
  readonly image: LiveImage;
  /** Worked on, not replied to. */
  batch: Change[];
  /** A request of it failed: it may hold locks until its next commit, which comes with the reply. */
  owesReply: boolean;
}

export class Locks {
  readonly #control: Int32Array;
  readonly #locks: Int32Array;

  constructor(state: SharedState) {
    this.#control = state.control;
    this.#locks = state.locks;
  }

  #get(index: number): number {
    return this.#control[index] ?? 0;
  }

  areRegionsFree(fromByte: number, length: number): boolean {
    const first = WriteOrder.regionOf(Math.floor(fromByte / BLOCK_BYTES));
    const last = WriteOrder.regionOf(Math.floor((fromByte + length - 1) / BLOCK_BYTES));
    for (let region = first; region <= last; region++) if (this.#locks[region % LOCKS] !== 0) return false;
    return true;
  }

  /** Could a thread commit so many blocks without waiting for whoever is stopped? */
  canCommit(blocks: number): boolean {
    if (blocks === 0) return true;
    if (this.#get(Control.GROW) !== 0 || this.#get(Control.STAMP) !== 0) return false;
    const half = this.#get(Control.EPOCH) & 1;
    const promised = this.#get(Control.PROMISED);
    if (this.#get(Control.NEXT_SLOT + half) + promised + blocks <= this.#get(Control.SLOTS + half)) return true;
    // It may come to a checkpoint, and that to a switch of halves.
    return (
      this.#get(Control.ORDER) === 0 &&
      this.#get(Control.LOG) === 0 &&
      this.#get(Control.WRITERS) === 0 &&
      this.#get(Control.WRITERS + 1) === 0
    );
  }

  canChange(): boolean {
    if (this.#get(Control.LOG) !== 0 || this.#get(Control.STAMP) !== 0) return false;
    return this.#get(Control.ORDER) === 0 || this.#get(Control.HEAD_DIRTY) === 1;
  }

  /** @param mindsWriters false: as if nobody were writing into the journal */
  canFlush(pendingBlocks: number, mindsWriters = true): boolean {
    if (this.#get(Control.ORDER) !== 0 || this.#get(Control.LOG) !== 0 || this.#get(Control.STAMP) !== 0) return false;
    const half = this.#get(Control.EPOCH) & 1;
    if (!mindsWriters) return true;
    if (pendingBlocks > 0 && (this.#get(Control.WRITERS + half) !== 0 || !this.canCommit(pendingBlocks))) return false;
    return this.#get(Control.WRITERS + 1 - half) === 0;
  }
}

/** At most so many blocks may wait to be committed. */
export function pendingBlocks({ batch }: Thread): number {
  return batch.reduce((sum, { bytes }) => sum + Math.ceil(bytes.length / BLOCK_BYTES) + 1, 0);
}
