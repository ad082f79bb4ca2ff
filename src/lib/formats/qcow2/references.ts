/**
 * Owns the walk over all references to clusters in a qcow2 file: header, tables of the image and of its snapshots,
 * reference counts, bitmaps. Memory and time are bounded by the limits of the header.
 */
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import type { Qcow2Header } from "./header.ts";
import {
  ENTRY_BYTES,
  EXTENDED_ENTRY_BYTES,
  HIGH_COMPRESSED,
  HIGH_RESERVED,
  LOW_RESERVED,
  LOW_ZERO,
  MAX_L1_BYTES,
  SECTOR_BYTES,
  TWO_32,
} from "./layout.ts";
import { type Entry, entriesOf, Places, placeIn } from "./table-entries.ts";
import { USE, type Use } from "./usage-counts.ts";

/** A reference to bytes of the file, found in an entry at byte `at`. */
export interface Reference {
  readonly at: number;
  readonly offset: number;
  readonly length: number;
  readonly use: Use;
  readonly what: string;
  /** How many tables contain it: snapshots share them. */
  readonly times: number;
  /** Must it point to the start of a cluster? */
  readonly aligned: boolean;
}

export interface WalkHooks {
  /** @returns false if the reference must not be followed */
  readonly use: (reference: Reference) => boolean;
  /** Receives an entry with bits set that must be zero. */
  readonly reserved: (at: number) => void;
  /** Receives an L2 table that one L1 table, at `at`, names more than once. */
  readonly twice: (at: number, place: number, times: number) => void;
  /** Called often enough. */
  readonly pause: () => Promise<void> | undefined;
}

interface Table {
  readonly at: number;
  readonly offset: number;
  readonly entries: number;
}

const SNAPSHOT_FIXED_BYTES = 40;
const BITMAP_FIXED_BYTES = 24;
const MAX_BITMAPS = 65535;

export class ReferenceWalk {
  readonly #source: ByteSource;
  readonly #header: Qcow2Header;
  readonly #hooks: WalkHooks;

  constructor(source: ByteSource, header: Qcow2Header, hooks: WalkHooks) {
    this.#source = source;
    this.#header = header;
    this.#hooks = hooks;
  }

  async run(): Promise<void> {
    const { clusterBytes, refcountTableOffsetBytes, refcountTableClusters, l1OffsetBytes, l1Entries } = this.#header;
    this.#use(0, 0, clusterBytes, USE.other, "the header");
    this.#use(48, refcountTableOffsetBytes, refcountTableClusters * clusterBytes, USE.other, "the refcount table");
    // Each L2 table is walked once, however many tables name it: no walk is longer than the file.
    const tables = new Places();
    await this.#l1({ at: 40, offset: l1OffsetBytes, entries: l1Entries }, tables);
    for (const table of this.#snapshots()) await this.#l1(table, tables);
    for (const { place, times } of tables.counted()) await this.#l2(place, times);
    await this.#bitmaps();
  }

  #use(
    at: number,
    offset: number,
    length: number,
    use: Use,
    what: string,
    { times = 1, aligned = true } = {},
  ): boolean {
    return this.#hooks.use({ at, offset, length, use, what, times, aligned });
  }

  async #each(offset: number, entries: number, entryBytes: number, visit: (entry: Entry) => void): Promise<void> {
    for (const entry of entriesOf(this.#source, { offset, entries, entryBytes })) {
      if (entry) visit(entry);
      else await this.#hooks.pause();
    }
  }

  async #l1({ at, offset, entries }: Table, tables: Places): Promise<void> {
    if (entries === 0) return;
    if (!this.#use(at, offset, entries * ENTRY_BYTES, USE.other, "an L1 table")) return;
    const own = new Places();
    await this.#each(offset, entries, ENTRY_BYTES, (entry) => {
      const table = placeIn(entry);
      if ((entry.high & (HIGH_RESERVED | HIGH_COMPRESSED)) !== 0 || (entry.low & (LOW_RESERVED | LOW_ZERO)) !== 0)
        this.#hooks.reserved(entry.at);
      if (table === 0) return;
      own.add(table);
      if (this.#use(entry.at, table, this.#header.clusterBytes, USE.l2, "an L2 table")) tables.add(table);
    });
    for (const { place, times } of own.counted()) if (times > 1) this.#hooks.twice(offset, place, times);
  }

  async #l2(table: number, times: number): Promise<void> {
    const { clusterBytes, clusterBits, extendedL2 } = this.#header;
    const size = extendedL2 ? EXTENDED_ENTRY_BYTES : ENTRY_BYTES;
    const reserved = LOW_RESERVED | (extendedL2 ? LOW_ZERO : 0);
    await this.#each(table, clusterBytes / size, size, (entry) => {
      const { at, high, low } = entry;
      if (high & HIGH_COMPRESSED) {
        const bits = 62 - (clusterBits - 8) - 32;
        const offset = (high & (2 ** bits - 1)) * TWO_32 + low;
        const sectors = ((high & 0x3fff_ffff) >>> bits) + 1;
        // It ends somewhere in its last sector, which the file need not have.
        const length = sectors * SECTOR_BYTES - (offset % SECTOR_BYTES);
        this.#use(at, offset, length, USE.data, "a compressed cluster", { times, aligned: false });
        return;
      }
      if ((high & HIGH_RESERVED) !== 0 || (low & reserved) !== 0) this.#hooks.reserved(at);
      const offset = placeIn(entry);
      if (offset !== 0) this.#use(at, offset, clusterBytes, USE.data, "a cluster", { times });
    });
  }

  *#snapshots(): Generator<Table> {
    const { snapshotCount, snapshotsOffsetBytes } = this.#header;
    if (snapshotCount === 0) return;
    const fixed = new DataView(new ArrayBuffer(SNAPSHOT_FIXED_BYTES));
    const tables: Table[] = [];
    let at = snapshotsOffsetBytes;
    for (let i = 0; i < snapshotCount && at < this.#source.sizeBytes; i++) {
      readZeroFilled(this.#source, new Uint8Array(fixed.buffer), at);
      const entries = Math.min(fixed.getUint32(8), MAX_L1_BYTES / ENTRY_BYTES);
      tables.push({ at, offset: placeIn({ high: fixed.getUint32(0), low: fixed.getUint32(4) }), entries });
      const rest = fixed.getUint32(36) + fixed.getUint16(12) + fixed.getUint16(14);
      at += Math.ceil((SNAPSHOT_FIXED_BYTES + rest) / 8) * 8;
    }
    this.#use(64, snapshotsOffsetBytes, at - snapshotsOffsetBytes, USE.other, "the table of snapshots");
    yield* tables;
  }

  async #bitmaps(): Promise<void> {
    const { bitmaps, clusterBytes } = this.#header;
    if (!bitmaps || bitmaps.lengthBytes === 0) return;
    const { offsetBytes, lengthBytes, count } = bitmaps;
    if (!this.#use(0, offsetBytes, lengthBytes, USE.other, "the directory of bitmaps")) return;
    const fixed = new DataView(new ArrayBuffer(BITMAP_FIXED_BYTES));
    let at = offsetBytes;
    for (let i = 0; i < Math.min(count, MAX_BITMAPS) && at < offsetBytes + lengthBytes; i++) {
      readZeroFilled(this.#source, new Uint8Array(fixed.buffer), at);
      const table = placeIn({ high: fixed.getUint32(0), low: fixed.getUint32(4) });
      const entries = fixed.getUint32(8);
      if (entries > 0 && this.#use(at, table, entries * ENTRY_BYTES, USE.other, "the table of a bitmap")) {
        await this.#each(table, entries, ENTRY_BYTES, (entry) => {
          const offset = placeIn(entry);
          if (offset !== 0) this.#use(entry.at, offset, clusterBytes, USE.other, "a bitmap's data");
        });
      }
      const rest = fixed.getUint16(18) + fixed.getUint32(20);
      at += Math.ceil((BITMAP_FIXED_BYTES + rest) / 8) * 8;
      await this.#hooks.pause();
    }
  }
}
