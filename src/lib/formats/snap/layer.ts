/**
 * Owns the logs of a snapshot as one layer: the old contents of each block that was written since, over the source as
 * it is now.
 */

import { setRuns } from "../../bytes/bitmap.ts";
import type { Place } from "../../bytes/byte-source.ts";
import { coalesce, type Extent } from "../../bytes/extent.ts";
import type { BaseIdentity, Layer } from "../format.ts";
import type { SnapGeometry } from "./geometry.ts";
import { type SnapLog, WINDOW_BLOCKS } from "./log.ts";

export interface SnapLayerParts {
  readonly name: string;
  readonly geometry: SnapGeometry;
  /** In the order in which they were filled; already checked. */
  readonly logs: readonly SnapLog[];
  readonly virtualSizeBytes: number;
  readonly base: BaseIdentity;
  readonly warnings: readonly string[] | undefined;
}

export class SnapLayer implements Layer {
  readonly formatId = "snap";
  readonly name: string;
  readonly granularityBytes: number;
  readonly virtualSizeBytes: number;
  readonly base: BaseIdentity;
  readonly warnings: readonly string[] | undefined;
  readonly #logs: readonly SnapLog[];

  constructor({ name, geometry, logs, virtualSizeBytes, base, warnings }: SnapLayerParts) {
    this.name = name;
    this.granularityBytes = geometry.blockBytes;
    this.virtualSizeBytes = virtualSizeBytes;
    this.base = base;
    this.warnings = warnings;
    // The newest comes first.
    this.#logs = [...logs].reverse();
  }

  extents(from: number, to: number): Iterable<Extent> {
    return coalesce(this.#runs(from, to));
  }

  *#runs(from: number, to: number): Generator<Extent> {
    const size = this.granularityBytes;
    const first = Math.floor(from / size);
    const last = Math.ceil(Math.min(to, this.virtualSizeBytes) / size);
    for (const index of this.#windows(first, last)) {
      const start = index * WINDOW_BLOCKS;
      const bytes = this.#bitsOfAll(index);
      const stop = Math.min(bytes.length * 8, last - start, this.#sourceBlocks - start);
      for (const [a, b] of setRuns(bytes, Math.max(0, first - start), stop))
        yield { offset: (start + a) * size, length: (b - a) * size };
    }
  }

  *places(from: number, to: number): Generator<Place> {
    const size = this.granularityBytes;
    let open: { source: SnapLog["source"]; offset: number; at: number; length: number } | undefined;
    for (const extent of this.extents(from, to)) {
      for (let offset = extent.offset; offset < extent.offset + extent.length; offset += size) {
        const block = offset / size;
        const log = this.#logs.find((each) => each.has(block));
        if (!log) continue;
        const at = log.dataOffset(block);
        const follows = open?.source === log.source && open.at + open.length === at;
        if (open && follows && open.offset + open.length === offset) open.length += size;
        else {
          if (open) yield* cut(open, from, to);
          open = { source: log.source, offset, at, length: size };
        }
      }
    }
    if (open) yield* cut(open, from, to);
  }

  get #sourceBlocks(): number {
    return this.#logs[0]?.geometry.sourceBlocks ?? 0;
  }

  /** The windows of the bitmaps that are not holes in every log, ascending. */
  #windows(from: number, to: number): Iterable<number> {
    const all = new Set<number>();
    for (const log of this.#logs) for (const index of log.windows(from, to)) all.add(index);
    return [...all].sort((a, b) => a - b);
  }

  #bitsOfAll(index: number): Uint8Array {
    const [first, ...others] = this.#logs;
    const bits = first?.bits(index) ?? new Uint8Array(0);
    if (others.length === 0) return bits;
    const all = bits.slice();
    for (const log of others) {
      const more = log.bits(index);
      for (let i = 0; i < all.length; i++) all[i] = (all[i] ?? 0) | (more[i] ?? 0);
    }
    return all;
  }
}

function* cut({ source, offset, at, length }: Place, from: number, to: number): Generator<Place> {
  const start = Math.max(offset, from);
  const end = Math.min(offset + length, to);
  if (end > start) yield { source, offset: start, at: at + start - offset, length: end - start };
}
