/**
 * Owns the mapping from an offset of the image to its bytes: the entries of L2 tables, joined into runs. Every entry is
 * checked before it is used.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { atByte, CowError } from "../../errors.ts";
import type { Qcow2Header } from "./header.ts";
import {
  ENTRY_BYTES,
  EXTENDED_ENTRY_BYTES,
  HIGH_COMPRESSED,
  HIGH_RESERVED,
  LOW_RESERVED,
  LOW_ZERO,
  SECTOR_BYTES,
  SUBCLUSTERS,
  TWO_32,
} from "./layout.ts";
import { placeIn } from "./table-entries.ts";
import { beyondEnd, Tables } from "./tables.ts";

/** A pause follows after this many bytes of tables. */
const PAUSE_BYTES = 1 << 20;
const ALL_SUBCLUSTERS = 0xffff_ffff;

/** An allocated part of the image; parts in no run are not allocated. A run without a length is a pause. */
export interface Run {
  readonly kind: "data" | "zero" | "compressed";
  /** In the image. */
  readonly offset: number;
  readonly length: number;
  /** Where its first byte is in the file; of zeros that have no cluster 0, of compressed data the offset in the image. */
  readonly at: number;
}

/** The place of a compressed cluster: at most that many bytes. */
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
  readonly #tables: Tables;

  /** @param force bytes beyond the end of the file read as zeros */
  constructor(source: ByteSource, header: Qcow2Header, force: boolean) {
    this.#source = source;
    this.#header = header;
    this.#force = force;
    this.#entryBytes = header.extendedL2 ? EXTENDED_ENTRY_BYTES : ENTRY_BYTES;
    this.#tableEntries = header.clusterBytes / this.#entryBytes;
    this.#tables = new Tables(source, header, force);
  }

  /**
   * The allocated parts of `[from, to)`, ascending, joined where their bytes are contiguous, cut to the range and to
   * the image.
   * @throws CowError `damaged`, `truncated`, `io`
   */
  *runs(from: number, to: number): Generator<Run> {
    this.#tables.requireOnce();
    const end = Math.min(to, this.#header.virtualSizeBytes);
    let last: Run | undefined;
    for (const run of this.#clusters(from, end)) {
      if (run.length === 0) {
        yield { ...run, offset: Math.max(from, last?.offset ?? run.offset) };
        continue;
      }
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

  /** The place of the compressed cluster at `offset` (its first byte in the image). */
  compressedAt(offset: number): CompressedPlace {
    const index = offset / this.#header.clusterBytes;
    const table = this.#tables.at(Math.floor(index / this.#tableEntries));
    const at = table + (index % this.#tableEntries) * this.#entryBytes;
    const start = Math.floor(at / this.#tables.sliceBytes) * this.#tables.sliceBytes;
    const slice = this.#tables.slice(start);
    return this.#compressed(slice.getUint32(at - start), slice.getUint32(at - start + 4), offset);
  }

  /** Runs of neighbouring clusters of one L2 slice at a time, not cut. */
  *#clusters(from: number, end: number): Generator<Run> {
    const { clusterBytes } = this.#header;
    const bytesPerTable = this.#tableEntries * clusterBytes;
    const perSlice = this.#tables.sliceBytes / this.#entryBytes;
    let index = Math.floor(from / clusterBytes);
    const stop = Math.ceil(end / clusterBytes);
    let seen = 0;
    while (index < stop) {
      if (seen >= PAUSE_BYTES) {
        yield { kind: "zero", offset: index * clusterBytes, length: 0, at: 0 };
        seen = 0;
      }
      const l1Index = Math.floor((index * clusterBytes) / bytesPerTable);
      const table = this.#tables.at(l1Index);
      const first = l1Index * this.#tableEntries;
      seen += ENTRY_BYTES;
      if (table === 0) {
        index = first + this.#tableEntries;
        continue;
      }
      const part = Math.floor((index - first) / perSlice);
      const sliceStart = first + part * perSlice;
      const sliceEnd = Math.min(stop, sliceStart + perSlice);
      const slice = this.#tables.slice(table + part * this.#tables.sliceBytes);
      if (this.#header.extendedL2) yield* this.#extended(slice, sliceStart, index, sliceEnd);
      else yield* this.#standard(slice, sliceStart, index, sliceEnd);
      index = sliceEnd;
      seen += this.#tables.sliceBytes;
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
        continue;
      }
      this.#judgeReserved(high, low & LOW_RESERVED, offset);
      if (low & LOW_ZERO) {
        this.#judgePlace(placeIn({ high, low }), offset);
        if (version < 3) throw this.#damaged(offset, "a cluster is marked zero, which version 2 does not know");
        yield { kind: "zero", offset, length: clusterBytes, at: placeIn({ high, low }) };
      } else {
        const host = placeIn({ high, low });
        if (host === 0) continue;
        const count = this.#clustersInRow(slice, index - 1 - sliceStart, to - sliceStart, host);
        const length = count * clusterBytes;
        this.#judgeHost(host, offset);
        this.#judgeHost(host + length - clusterBytes, offset + length - clusterBytes);
        yield { kind: "data", offset, length, at: host };
        index += count - 1;
      }
    }
  }

  /** By far the most frequent case: contiguous clusters are joined without making an object of each. */
  #clustersInRow(slice: DataView, first: number, to: number, host: number): number {
    let next = host;
    let index = first + 1;
    for (; index < to; index++) {
      next += this.#header.clusterBytes;
      const [high, low] = [slice.getUint32(index * ENTRY_BYTES), slice.getUint32(index * ENTRY_BYTES + 4)];
      if (high & (HIGH_COMPRESSED | HIGH_RESERVED) || low & (LOW_ZERO | LOW_RESERVED)) break;
      if (placeIn({ high, low }) !== next) break;
    }
    return index - first;
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
      this.#judgeReserved(high, low & (LOW_RESERVED | LOW_ZERO), offset);
      if (zeros === 0 && held === 0) continue;
      if ((zeros & held) !== 0) throw this.#damaged(offset, "a subcluster is marked both zero and allocated");
      const host = placeIn({ high, low });
      if (held !== 0) {
        if (host === 0) throw this.#damaged(offset, "subclusters are marked as allocated, but have no place");
        this.#judgeHost(host, offset);
      }
      if (held === ALL_SUBCLUSTERS) yield { kind: "data", offset, length: clusterBytes, at: host };
      else if (zeros === ALL_SUBCLUSTERS) yield { kind: "zero", offset, length: clusterBytes, at: host };
      else yield* this.#subclusters(offset, host, zeros, held);
    }
  }

  *#subclusters(offset: number, host: number, zeros: number, held: number): Generator<Run> {
    const length = this.#header.clusterBytes / SUBCLUSTERS;
    for (let i = 0; i < SUBCLUSTERS; i++) {
      const start = offset + i * length;
      if ((held >>> i) & 1) yield { kind: "data", offset: start, length, at: host + i * length };
      else if ((zeros >>> i) & 1) yield { kind: "zero", offset: start, length, at: host === 0 ? 0 : host + i * length };
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

  /** It is unknown what set such bits, and what the entry then means. */
  #judgeReserved(high: number, low: number, offset: number): void {
    if (((high & HIGH_RESERVED) !== 0 || low !== 0) && !this.#force)
      throw this.#damaged(offset, "the entry of its cluster has bits set that must be zero");
  }

  #judgePlace(host: number, offset: number): void {
    const { clusterBytes } = this.#header;
    if (host % clusterBytes !== 0 || host > Number.MAX_SAFE_INTEGER - clusterBytes)
      throw this.#damaged(offset, `its data is said to be at ${host}, where no cluster begins`);
  }

  #judgeHost(host: number, offset: number): void {
    this.#judgePlace(host, offset);
    if (host >= this.#source.sizeBytes && !this.#force)
      throw beyondEnd(this.#source, host, `the data of ${atByte(offset)} of the image`);
  }

  #damaged(offset: number, message: string): CowError {
    return new CowError("damaged", `${atByte(offset)} of the image: ${message}`, {
      file: this.#source.name,
      details: { image_offset: offset },
    });
  }
}

function joins(a: Run, b: Run): boolean {
  return a.kind === b.kind && a.offset + a.length === b.offset && movedAt(a, a.length) === b.at;
}

/** Where the file has what is that much further on in the image. */
function movedAt({ kind, at }: Run, bytes: number): number {
  return kind === "zero" && at === 0 ? 0 : at + bytes;
}

function cut(run: Run, from: number, to: number): Run | undefined {
  const start = Math.max(run.offset, from);
  const stop = Math.min(run.offset + run.length, to);
  return stop > start
    ? { kind: run.kind, offset: start, length: stop - start, at: movedAt(run, start - run.offset) }
    : undefined;
}
