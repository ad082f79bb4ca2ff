/**
 * Owns the way from an offset of the image to where its bytes lie: L1 and L2 tables, read in slices that a bounded cache
 * keeps, and joined into runs. Every entry is judged before it is used.
 */
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import { atByte, CowError } from "../../errors.ts";
import type { Qcow2Header } from "./header.ts";
import {
  ENTRY_BYTES,
  EXTENDED_ENTRY_BYTES,
  HIGH_COMPRESSED,
  HIGH_OFFSET,
  LOW_OFFSET,
  LOW_ZERO,
  SECTOR_BYTES,
  SUBCLUSTERS,
  TWO_32,
} from "./layout.ts";

const SLICE_BYTES = 64 * 1024;
const CACHED_BYTES = 4 << 20;
const ALL_SUBCLUSTERS = 0xffff_ffff;

/** A part of the image that the file holds; what is in no run is not allocated. */
export interface Run {
  readonly kind: "data" | "zero" | "compressed";
  /** In the image. */
  readonly offset: number;
  readonly length: number;
  /** Of data: where its first byte lies in the file. Otherwise the offset in the image. */
  readonly at: number;
}

/** Where a compressed cluster lies: at most that many bytes. */
export interface CompressedPlace {
  readonly offset: number;
  readonly length: number;
}

export class ClusterMap {
  readonly #source: ByteSource;
  readonly #header: Qcow2Header;
  readonly #force: boolean;
  readonly #entryBytes: number;
  readonly #tableEntries: number;
  readonly #sliceBytes: number;
  readonly #slices = new Map<number, DataView>();

  /** @param force what should lie beyond the end of the file reads as zeros */
  constructor(source: ByteSource, header: Qcow2Header, force: boolean) {
    this.#source = source;
    this.#header = header;
    this.#force = force;
    this.#entryBytes = header.extendedL2 ? EXTENDED_ENTRY_BYTES : ENTRY_BYTES;
    this.#tableEntries = header.clusterBytes / this.#entryBytes;
    this.#sliceBytes = Math.min(header.clusterBytes, SLICE_BYTES);
  }

  /**
   * The allocated parts of `[from, to)`, ascending, joined where their bytes lie in a row, cut to it and to the image.
   * @throws CowError `damaged`, `truncated`, `io`
   */
  *runs(from: number, to: number): Generator<Run> {
    const end = Math.min(to, this.#header.virtualSizeBytes);
    let last: Run | undefined;
    for (const run of this.#clusters(from, end)) {
      if (last && joins(last, run)) {
        last = { ...last, length: last.length + run.length };
        continue;
      }
      const whole = last && cut(last, from, end);
      if (whole) yield whole;
      last = run;
    }
    const whole = last && cut(last, from, end);
    if (whole) yield whole;
  }

  /** Where the compressed cluster at `offset` (its first byte in the image) lies. */
  compressedAt(offset: number): CompressedPlace {
    const index = offset / this.#header.clusterBytes;
    const table = this.#tableAt(Math.floor(index / this.#tableEntries));
    const at = table + (index % this.#tableEntries) * this.#entryBytes;
    const start = Math.floor(at / this.#sliceBytes) * this.#sliceBytes;
    const slice = this.#slice(start);
    return this.#compressed(slice.getUint32(at - start), slice.getUint32(at - start + 4), offset);
  }

  /** Runs of neighbouring clusters of one L2 slice at a time, not cut. */
  *#clusters(from: number, end: number): Generator<Run> {
    const { clusterBytes } = this.#header;
    const bytesPerTable = this.#tableEntries * clusterBytes;
    const perSlice = this.#sliceBytes / this.#entryBytes;
    let index = Math.floor(from / clusterBytes);
    const stop = Math.ceil(end / clusterBytes);
    while (index < stop) {
      const l1Index = Math.floor((index * clusterBytes) / bytesPerTable);
      const table = this.#tableAt(l1Index);
      const first = l1Index * this.#tableEntries;
      if (table === 0) {
        index = first + this.#tableEntries;
        continue;
      }
      const part = Math.floor((index - first) / perSlice);
      const sliceStart = first + part * perSlice;
      const sliceEnd = Math.min(stop, sliceStart + perSlice);
      const slice = this.#slice(table + part * this.#sliceBytes);
      if (this.#header.extendedL2) yield* this.#extended(slice, sliceStart, index, sliceEnd);
      else yield* this.#standard(slice, sliceStart, index, sliceEnd);
      index = sliceEnd;
    }
  }

  *#standard(slice: DataView, sliceStart: number, from: number, to: number): Generator<Run> {
    const { clusterBytes, version } = this.#header;
    for (let index = from; index < to; ) {
      const at = (index - sliceStart) * ENTRY_BYTES;
      const high = slice.getUint32(at);
      const low = slice.getUint32(at + 4);
      const offset = index * clusterBytes;
      index++;
      if (high === 0 && low === 0) continue;
      if (high & HIGH_COMPRESSED) {
        this.#compressed(high, low, offset);
        yield { kind: "compressed", offset, length: clusterBytes, at: offset };
      } else if (low & LOW_ZERO) {
        if (version < 3) throw this.#damaged(offset, "a cluster is marked zero, which version 2 does not know");
        yield { kind: "zero", offset, length: clusterBytes, at: offset };
      } else {
        const host = (high & HIGH_OFFSET) * TWO_32 + ((low & LOW_OFFSET) >>> 0);
        if (host === 0) continue;
        this.#judgeHost(host, offset);
        // The usual case by far: whatever lies in a row is looked at without making an object of each.
        let next = host + clusterBytes;
        const first = index - 1;
        for (; index < to; index++, next += clusterBytes) {
          const where = (index - sliceStart) * ENTRY_BYTES;
          const [h, l] = [slice.getUint32(where), slice.getUint32(where + 4)];
          if (h & HIGH_COMPRESSED || l & LOW_ZERO || (h & HIGH_OFFSET) * TWO_32 + ((l & LOW_OFFSET) >>> 0) !== next)
            break;
        }
        const length = (index - first) * clusterBytes;
        this.#judgeHost(host + length - clusterBytes, offset + length - clusterBytes);
        yield { kind: "data", offset, length, at: host };
      }
    }
  }

  *#extended(slice: DataView, sliceStart: number, from: number, to: number): Generator<Run> {
    const { clusterBytes } = this.#header;
    for (let index = from; index < to; index++) {
      const at = (index - sliceStart) * EXTENDED_ENTRY_BYTES;
      const high = slice.getUint32(at);
      const low = slice.getUint32(at + 4);
      const zeros = slice.getUint32(at + 8);
      const held = slice.getUint32(at + 12);
      const offset = index * clusterBytes;
      if (high & HIGH_COMPRESSED) {
        this.#compressed(high, low, offset);
        yield { kind: "compressed", offset, length: clusterBytes, at: offset };
        continue;
      }
      if (zeros === 0 && held === 0) continue;
      if ((zeros & held) !== 0) throw this.#damaged(offset, "a subcluster is marked both zero and held");
      const host = (high & HIGH_OFFSET) * TWO_32 + ((low & LOW_OFFSET) >>> 0);
      if (held !== 0) {
        if (host === 0) throw this.#damaged(offset, "subclusters are marked as held, but lie nowhere");
        this.#judgeHost(host, offset);
      }
      if (held === ALL_SUBCLUSTERS) yield { kind: "data", offset, length: clusterBytes, at: host };
      else if (zeros === ALL_SUBCLUSTERS) yield { kind: "zero", offset, length: clusterBytes, at: offset };
      else yield* this.#subclusters(offset, host, zeros, held);
    }
  }

  *#subclusters(offset: number, host: number, zeros: number, held: number): Generator<Run> {
    const length = this.#header.clusterBytes / SUBCLUSTERS;
    for (let i = 0; i < SUBCLUSTERS; i++) {
      const start = offset + i * length;
      if ((held >>> i) & 1) yield { kind: "data", offset: start, length, at: host + i * length };
      else if ((zeros >>> i) & 1) yield { kind: "zero", offset: start, length, at: start };
    }
  }

  #compressed(high: number, low: number, offset: number): CompressedPlace {
    // Of 62 bits the lowest hold the offset in the file, the others how many sectors follow the first one.
    const offsetBits = 62 - (this.#header.clusterBits - 8) - 32;
    const at = (high & (2 ** offsetBits - 1)) * TWO_32 + low;
    const sectors = ((high & 0x3fff_ffff) >>> offsetBits) + 1;
    const length = sectors * SECTOR_BYTES - (at % SECTOR_BYTES);
    if (at === 0 || at >= this.#source.sizeBytes)
      throw this.#damaged(offset, `a compressed cluster is said to lie at ${at}, not inside the file`);
    return { offset: at, length };
  }

  /** Where an L2 table lies, 0 for none. */
  #tableAt(l1Index: number): number {
    const { l1OffsetBytes, l1Entries, clusterBytes } = this.#header;
    if (l1Index >= l1Entries) return 0;
    const at = l1OffsetBytes + l1Index * ENTRY_BYTES;
    const start = Math.floor(at / this.#sliceBytes) * this.#sliceBytes;
    const slice = this.#slice(start);
    const high = slice.getUint32(at - start);
    const low = slice.getUint32(at - start + 4);
    const table = (high & HIGH_OFFSET) * TWO_32 + ((low & LOW_OFFSET) >>> 0);
    if (table % clusterBytes !== 0 || table > Number.MAX_SAFE_INTEGER - clusterBytes) {
      throw new CowError(
        "damaged",
        `the L1 entry at ${atByte(at)} names an L2 table at ${table}, where no cluster begins`,
        {
          file: this.#source.name,
          details: { offset: at },
        },
      );
    }
    return table;
  }

  /** A part of a table. */
  #slice(start: number): DataView {
    let slice = this.#slices.get(start);
    if (slice) {
      // The order of a Map is that of insertion: what is used again goes to its end.
      this.#slices.delete(start);
    } else {
      if (start >= this.#source.sizeBytes) throw this.#beyondEnd(start, "a table");
      const bytes = new Uint8Array(this.#sliceBytes);
      readZeroFilled(this.#source, bytes, start);
      slice = new DataView(bytes.buffer);
      if ((this.#slices.size + 1) * this.#sliceBytes > CACHED_BYTES)
        for (const oldest of this.#slices.keys()) {
          this.#slices.delete(oldest);
          break;
        }
    }
    this.#slices.set(start, slice);
    return slice;
  }

  #judgeHost(host: number, offset: number): void {
    const { clusterBytes } = this.#header;
    if (host % clusterBytes !== 0 || host > Number.MAX_SAFE_INTEGER - clusterBytes)
      throw this.#damaged(offset, `its data is said to lie at ${host}, where no cluster begins`);
    if (host >= this.#source.sizeBytes && !this.#force)
      throw this.#beyondEnd(host, `the data of ${atByte(offset)} of the image`);
  }

  #beyondEnd(at: number, what: string): CowError {
    return new CowError(
      "truncated",
      `the file ends at ${atByte(this.#source.sizeBytes)}, but ${what} is said to lie at ${at}`,
      {
        file: this.#source.name,
        details: { offset: at },
      },
    );
  }

  #damaged(offset: number, message: string): CowError {
    return new CowError("damaged", `${atByte(offset)} of the image: ${message}`, {
      file: this.#source.name,
      details: { image_offset: offset },
    });
  }
}

function joins(a: Run, b: Run): boolean {
  return a.kind === b.kind && a.offset + a.length === b.offset && a.at + a.length === b.at;
}

function cut(run: Run, from: number, to: number): Run | undefined {
  const start = Math.max(run.offset, from);
  const stop = Math.min(run.offset + run.length, to);
  return stop > start
    ? { kind: run.kind, offset: start, length: stop - start, at: run.at + start - run.offset }
    : undefined;
}
