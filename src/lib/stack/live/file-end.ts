/**
 * Owns the length of a cowfile while many threads punch holes into it: an allocated block must be within the file, even
 * as a hole. Beyond the end of the file it would count as lost.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { Control } from "./shared-state.ts";

const MIB = 1 << 20;
const ZEROS = new Uint8Array(BLOCK_BYTES);

/**
 * Makes the file reach to `end`, which is the end of a hole in a claimed block.
 *
 * @param control of the cowfile's shared state; has a lower bound of the length, so that most calls need no system call
 * @throws CowError `io`, `no-space`
 */
export function reachTo(cow: BlockDevice, end: number, control: Int32Array): void {
  const known = (control[Control.SIZE_MIB] ?? 0) * MIB;
  if (end <= known || end <= cow.sizeBytes) return;
  // The block is claimed and zero: writing it cannot shorten the file, as setting the size from two threads might.
  cow.write(ZEROS, end - BLOCK_BYTES);
  const reached = Math.floor(end / MIB);
  for (let seen = Atomics.load(control, Control.SIZE_MIB); seen < reached; ) {
    const before = Atomics.compareExchange(control, Control.SIZE_MIB, seen, reached);
    if (before === seen) break;
    seen = before;
  }
}
