/**
 * Owns reading L1 and L2 tables: in slices, with a bounded cache, and the L1 table's offsets of L2 tables.
 * cluster-map.ts owns the meaning of L2 entries.
 */
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import { atByte, CowError } from "../../errors.ts";
import type { Qcow2Header } from "./header.ts";
import { ENTRY_BYTES, HIGH_COMPRESSED, HIGH_RESERVED, LOW_RESERVED, LOW_ZERO } from "./layout.ts";
import { entriesOf, Places, placeIn } from "./table-entries.ts";

const SLICE_BYTES = 64 * 1024;
const CACHED_BYTES = 4 << 20;

export class Tables {
  readonly sliceBytes: number;
  readonly #source: ByteSource;
  readonly #header: Qcow2Header;
  readonly #slices = new Map<number, DataView>();
  #isJudged = false;
  readonly #force: boolean;

  /** @param force do not check the tables */
  constructor(source: ByteSource, header: Qcow2Header, force: boolean) {
    this.#source = source;
    this.#header = header;
    this.#force = force;
    this.sliceBytes = Math.min(header.clusterBytes, SLICE_BYTES);
  }

  /** The offset of an L2 table, 0 for none. */
  at(l1Index: number): number {
    const { l1OffsetBytes, l1Entries, clusterBytes } = this.#header;
    if (l1Index >= l1Entries) return 0;
    const entryAt = l1OffsetBytes + l1Index * ENTRY_BYTES;
    const start = Math.floor(entryAt / this.sliceBytes) * this.sliceBytes;
    const slice = this.slice(start);
    const high = slice.getUint32(entryAt - start);
    const low = slice.getUint32(entryAt - start + 4);
    const table = placeIn({ high, low });
    const isReserved = (high & (HIGH_COMPRESSED | HIGH_RESERVED)) !== 0 || (low & (LOW_ZERO | LOW_RESERVED)) !== 0;
    if (isReserved && !this.#force) {
      throw new CowError("damaged", `the L1 entry at ${atByte(entryAt)} has bits set that must be zero`, {
        file: this.#source.name,
        details: { offset: entryAt },
      });
    }
    if (table % clusterBytes !== 0 || table > Number.MAX_SAFE_INTEGER - clusterBytes) {
      throw new CowError(
        "damaged",
        `the L1 entry at ${atByte(entryAt)} names an L2 table at ${table}, where no cluster begins`,
        {
          file: this.#source.name,
          details: { offset: entryAt },
        },
      );
    }
    return table;
  }

  /**
   * The L1 table may not name an L2 table twice: no writer does that, and a small file would have a large image to
   * walk. So no walk is longer than the file.
   */
  requireOnce(): void {
    if (this.#isJudged || this.#force) return;
    const { l1OffsetBytes: offset, l1Entries: entries } = this.#header;
    const tables = new Places();
    for (const entry of entriesOf(this.#source, { offset, entries, entryBytes: ENTRY_BYTES }))
      if (entry) tables.add(placeIn(entry));
    for (const { place, times } of tables.counted()) {
      if (times === 1 || place === 0) continue;
      throw new CowError("damaged", `the L1 table names the L2 table at ${atByte(place)} ${times} times`, {
        file: this.#source.name,
        details: { offset },
      });
    }
    this.#isJudged = true;
  }

  /** A part of a table. */
  slice(start: number): DataView {
    let slice = this.#slices.get(start);
    if (slice) {
      // A Map keeps the order of insertion: a reused entry moves to the end.
      this.#slices.delete(start);
    } else {
      if (start >= this.#source.sizeBytes) throw beyondEnd(this.#source, start, "a table");
      const bytes = new Uint8Array(this.sliceBytes);
      readZeroFilled(this.#source, bytes, start);
      slice = new DataView(bytes.buffer);
      if ((this.#slices.size + 1) * this.sliceBytes > CACHED_BYTES)
        for (const oldest of this.#slices.keys()) {
          this.#slices.delete(oldest);
          break;
        }
    }
    this.#slices.set(start, slice);
    return slice;
  }
}

export function beyondEnd(source: ByteSource, at: number, what: string): CowError {
  return new CowError("truncated", `the file ends at ${atByte(source.sizeBytes)}, but ${what} is said to be at ${at}`, {
    file: source.name,
    details: { offset: at },
  });
}
