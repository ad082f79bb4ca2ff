/**
 * Owns how far a cowfile's file reaches while many threads punch holes into it: a block that is allocated must be within the
 * file, be it as a hole. Beyond the end of the file it would count as lost.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { Control } from "./shared-state.ts";

const MIB = 1 << 20;
const ZEROS = new Uint8Array(BLOCK_BYTES);

/**
 * Makes the file reach to `end`, which is the end of a hole in a claimed block.
 *
 * @param control of the cowfile's shared state; knows a lower bound of the length, so that most calls ask nobody
 * @throws CowError `io`, `no-space`
 */
export function reachTo(cow: BlockDevice, end: number, control: Int32Array): void {
  const known = (control[Control.SIZE_MIB] ?? 0) * MIB;
  if (end <= known || end <= cow.sizeBytes) return;
  // The block is ours and zero: writing it cannot shorten the file, as setting its size from two threads might.
  cow.write(ZEROS, end - BLOCK_BYTES);
  const reached = Math.floor(end / MIB);
  for (let seen = Atomics.load(control, Control.SIZE_MIB); seen < reached; ) {
    const before = Atomics.compareExchange(control, Control.SIZE_MIB, seen, reached);
    if (before === seen) break;
    seen = before;
  }
}
