/**
 * Owns reading a logical volume through its physical volume.
 */
import { type ByteSource, type Place, readZeroFilled } from "../../bytes/byte-source.ts";
import { coalesce, type Extent } from "../../bytes/extent.ts";
import { CowError } from "../../errors.ts";
import type { PlacedSource } from "../format.ts";
import { SECTOR_BYTES } from "./layout.ts";
import type { LogicalVolume, Segment } from "./volume-group.ts";

/** A pause follows after this many runs. */
const PAUSE_RUNS = 4096;

/** A logical volume as a source: bytes of the physical volume, in the order of its segments and stripes. */
export class LogicalVolumeSource implements PlacedSource {
  readonly name: string;
  readonly sizeBytes: number;
  readonly allocationUnitBytes: number;
  readonly seesHoles: boolean;
  readonly #source: ByteSource;
  readonly #segments: readonly Segment[];

  /**
   * @throws CowError `unsupported` if it can't be addressed; `truncated` if the file ends before it; `damaged` if it is
   * larger
   */
  constructor(source: ByteSource, group: string, volume: LogicalVolume) {
    this.name = `${source.name} (${group}/${volume.name})`;
    if (!volume.segments) {
      throw new CowError("unsupported", `the logical volume ${group}/${volume.name} ${volume.reason}`, {
        file: source.name,
      });
    }
    for (const { length, stripes } of volume.segments) {
      for (const stripe of stripes) {
        const end = (stripe + length / stripes.length) * SECTOR_BYTES;
        if (end <= source.sizeBytes) continue;
        throw new CowError("truncated", `ends before the logical volume ${group}/${volume.name} does, at byte ${end}`, {
          file: source.name,
        });
      }
    }
    this.sizeBytes = volume.sectors * SECTOR_BYTES;
    // Otherwise a small file could show the same extents a hundred thousand times.
    if (this.sizeBytes > source.sizeBytes) {
      const words = `the logical volume ${group}/${volume.name} has ${this.sizeBytes} bytes, more than its physical volume: its segments overlap`;
      throw new CowError("damaged", words, { file: source.name });
    }
    this.allocationUnitBytes = source.allocationUnitBytes;
    this.seesHoles = source.seesHoles;
    this.#source = source;
    this.#segments = volume.segments;
  }

  read(target: Uint8Array, offsetBytes: number): number {
    const end = Math.min(offsetBytes + target.length, this.sizeBytes);
    for (const { offset, length, at } of this.#runs(offsetBytes, end)) {
      readZeroFilled(this.#source, target.subarray(offset - offsetBytes, offset - offsetBytes + length), at);
    }
    return Math.max(0, end - offsetBytes);
  }

  *places(from: number, to: number): Generator<Place> {
    let seen = 0;
    for (const { offset, length, at } of this.#runs(from, Math.min(to, this.sizeBytes))) {
      // A sparse volume may have any number of stripes.
      if (++seen % PAUSE_RUNS === 0) yield { offset, length: 0, source: this.#source, at };
      for (const data of this.#source.dataExtents(at, at + length)) {
        yield { offset: offset + (data.offset - at), length: data.length, source: this.#source, at: data.offset };
      }
    }
  }

  dataExtents(from: number, to: number): Iterable<Extent> {
    return coalesce(this.places(from, to));
  }

  /** The contiguous parts of `[from, to)` on the physical volume. */
  *#runs(from: number, to: number): Generator<Extent & { readonly at: number }> {
    for (const { start, length, stripes, stripeLength } of this.#segments) {
      const segmentStart = start * SECTOR_BYTES;
      const stripeBytes = stripeLength * SECTOR_BYTES;
      const stop = Math.min(to, segmentStart + length * SECTOR_BYTES);
      for (let offset = Math.max(from, segmentStart); offset < stop; ) {
        const within = offset - segmentStart;
        const row = Math.floor(within / stripeBytes);
        const inRow = within % stripeBytes;
        const size = Math.min(stop - offset, stripeBytes - inRow);
        const stripe = (stripes[row % stripes.length] ?? 0) * SECTOR_BYTES;
        yield { offset, length: size, at: stripe + Math.floor(row / stripes.length) * stripeBytes + inRow };
        offset += size;
      }
    }
  }
}
