/**
 * Owns the walk over everything in a qcow2 file that refers to clusters: header, tables of the image and of its snapshots,
 * reference counts, bitmaps. Memory is bounded, and so is the time, by what the header may say.
 */
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import type { Qcow2Header } from "./header.ts";
import {
  ENTRY_BYTES,
  EXTENDED_ENTRY_BYTES,
  HIGH_COMPRESSED,
  HIGH_OFFSET,
  LOW_OFFSET,
  MAX_L1_BYTES,
  SECTOR_BYTES,
  TWO_32,
} from "./layout.ts";
import { USE, type Use } from "./usage-counts.ts";

/** A reference to bytes of the file, found in an entry at byte `at`. */
export interface Reference {
  readonly at: number;
  readonly offset: number;
  readonly length: number;
  readonly use: Use;
  readonly what: string;
  /** Must it stand where a cluster begins? */
  readonly aligned: boolean;
}

export interface WalkHooks {
  /** @returns false where what lies there must not be followed */
  readonly use: (reference: Reference) => boolean;
  /** Called between tables. */
  readonly breath: () => Promise<void> | undefined;
}

interface Table {
  readonly at: number;
  readonly offset: number;
  readonly entries: number;
}

const SNAPSHOT_FIXED_BYTES = 40;
const BITMAP_FIXED_BYTES = 24;
const MAX_BITMAPS = 65535;
const MAX_PIECE_BYTES = 64 * 1024;

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
    await this.#l1({ at: 40, offset: l1OffsetBytes, entries: l1Entries });
    for (const table of this.#snapshots()) await this.#l1(table);
    await this.#bitmaps();
  }

  #use(at: number, offset: number, length: number, use: Use, what: string, aligned = true): boolean {
    return this.#hooks.use({ at, offset, length, use, what, aligned });
  }

  async #l1({ at, offset, entries }: Table): Promise<void> {
    if (entries === 0) return;
    if (!this.#use(at, offset, entries * ENTRY_BYTES, USE.other, "an L1 table")) return;
    for (const entry of this.#entries(offset, entries, ENTRY_BYTES)) {
      const table = offsetOf(entry.high, entry.low);
      if (table === 0) continue;
      if (this.#use(entry.at, table, this.#header.clusterBytes, USE.l2, "an L2 table")) this.#l2(table);
      await this.#hooks.breath();
    }
  }

  #l2(table: number): void {
    const { clusterBytes, clusterBits, extendedL2 } = this.#header;
    const size = extendedL2 ? EXTENDED_ENTRY_BYTES : ENTRY_BYTES;
    for (const { at, high, low } of this.#entries(table, clusterBytes / size, size)) {
      if (high & HIGH_COMPRESSED) {
        const bits = 62 - (clusterBits - 8) - 32;
        const offset = (high & (2 ** bits - 1)) * TWO_32 + low;
        const sectors = ((high & 0x3fff_ffff) >>> bits) + 1;
        // It ends somewhere in its last sector, which the file need not have.
        this.#use(
          at,
          offset,
          sectors * SECTOR_BYTES - (offset % SECTOR_BYTES),
          USE.data,
          "a compressed cluster",
          false,
        );
      } else {
        const offset = offsetOf(high, low);
        if (offset !== 0) this.#use(at, offset, clusterBytes, USE.data, "a cluster");
      }
    }
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
      tables.push({ at, offset: offsetOf(fixed.getUint32(0), fixed.getUint32(4)), entries });
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
      const table = offsetOf(fixed.getUint32(0), fixed.getUint32(4));
      const entries = fixed.getUint32(8);
      if (entries > 0 && this.#use(at, table, entries * ENTRY_BYTES, USE.other, "the table of a bitmap")) {
        for (const entry of this.#entries(table, entries, ENTRY_BYTES)) {
          const offset = offsetOf(entry.high, entry.low);
          if (offset !== 0) this.#use(entry.at, offset, clusterBytes, USE.other, "a bitmap's data");
        }
      }
      const rest = fixed.getUint16(18) + fixed.getUint32(20);
      at += Math.ceil((BITMAP_FIXED_BYTES + rest) / 8) * 8;
      await this.#hooks.breath();
    }
  }

  /** The entries of a table that are not zero, as far as the file reaches. */
  *#entries(table: number, count: number, size: number): Generator<{ at: number; high: number; low: number }> {
    const end = Math.min(table + count * size, this.#source.sizeBytes);
    const bytes = new Uint8Array(Math.max(0, Math.min(MAX_PIECE_BYTES, end - table)));
    const view = new DataView(bytes.buffer);
    for (let at = table; at < end; at += bytes.length) {
      const got = this.#source.read(bytes.subarray(0, Math.min(bytes.length, end - at)), at);
      for (let within = 0; within + 8 <= got; within += size) {
        const high = view.getUint32(within);
        const low = view.getUint32(within + 4);
        if (high !== 0 || low !== 0) yield { at: at + within, high, low };
      }
    }
  }
}

function offsetOf(high: number, low: number): number {
  return (high & HIGH_OFFSET) * TWO_32 + ((low & LOW_OFFSET) >>> 0);
}
