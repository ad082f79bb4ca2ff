/**
 * Owns a claim: the result of one look at the allocation bitmap for blocks that are about to be changed. Copy-up,
 * space, journal entries and the new allocations all derive from it, so that a write looks its range up once.
 */
import type { BlockMap } from "./block-map.ts";

export class Claim {
  first = 0;
  end = 0;
  /** Added to an offset in the image for its place in the layer's file; for new units valid once they are changed. */
  shift = 0;
  /** How often blocks had been allocated under the region's lock before the look. */
  allocations = 0;
  /** The unallocated runs, ascending: first block and end of each, in turn. A list of numbers, as every write makes one. */
  readonly bounds: number[] = [];

  /** Looks `[first, end)` up. */
  look(map: BlockMap, first: number, end: number): void {
    this.first = first;
    this.end = end;
    this.bounds.length = 0;
    map.clearRuns(first, end, this.bounds);
  }

  /** Is every block allocated? */
  get isAllocated(): boolean {
    return this.bounds.length === 0;
  }

  /** How many blocks are not allocated. */
  get freshCount(): number {
    let count = 0;
    for (let i = 0; i < this.bounds.length; i += 2) count += (this.bounds[i + 1] ?? 0) - (this.bounds[i] ?? 0);
    return count;
  }

  /** How many unallocated runs there are. */
  get runCount(): number {
    return this.bounds.length / 2;
  }

  get isFirstAllocated(): boolean {
    return this.bounds[0] !== this.first;
  }

  get isLastAllocated(): boolean {
    return this.bounds.at(-1) !== this.end;
  }

  /** The part of it for `[first, end)`, which must be within it. */
  part(first: number, end: number): Claim {
    const part = new Claim();
    part.first = first;
    part.end = end;
    part.shift = this.shift;
    for (let i = 0; i < this.bounds.length; i += 2) {
      const from = Math.max(this.bounds[i] ?? 0, first);
      const to = Math.min(this.bounds[i + 1] ?? 0, end);
      if (from < to) part.bounds.push(from, to);
    }
    return part;
  }
}
