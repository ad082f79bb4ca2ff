/**
 * Owns reading reference counts: table, blocks, and counts of every width from 1 to 64 bits.
 */
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import type { Qcow2Header } from "./header.ts";
import { ENTRY_BYTES, HIGH_OFFSET, LOW_OFFSET, TWO_32 } from "./layout.ts";
import { MOST_USES } from "./usage-counts.ts";

export class Refcounts {
  readonly clustersPerBlock: number;
  readonly #source: ByteSource;
  readonly #header: Qcow2Header;
  readonly #block: Uint8Array;
  readonly #view: DataView;
  #loaded = -1;

  constructor(source: ByteSource, header: Qcow2Header) {
    this.#source = source;
    this.#header = header;
    this.clustersPerBlock = (header.clusterBytes * 8) / 2 ** header.refcountOrder;
    this.#block = new Uint8Array(header.clusterBytes);
    this.#view = new DataView(this.#block.buffer);
  }

  /** Every refcount block of the clusters `[from, to)`: its offset in the file, and the offset of its entry. */
  *blocks(
    from: number,
    to: number,
  ): Generator<{ readonly index: number; readonly at: number; readonly offset: number }> {
    const { refcountTableOffsetBytes, refcountTableClusters, clusterBytes } = this.#header;
    const entries = (refcountTableClusters * clusterBytes) / ENTRY_BYTES;
    const stop = Math.min(entries, Math.ceil(to / this.clustersPerBlock));
    const piece = new DataView(new ArrayBuffer(clusterBytes));
    const perPiece = clusterBytes / ENTRY_BYTES;
    let loaded = -1;
    for (let index = Math.floor(from / this.clustersPerBlock); index < stop; index++) {
      const part = Math.floor(index / perPiece);
      const start = refcountTableOffsetBytes + part * clusterBytes;
      if (part !== loaded) {
        if (start >= this.#source.sizeBytes) return;
        readZeroFilled(this.#source, new Uint8Array(piece.buffer), start);
        loaded = part;
      }
      const within = (index % perPiece) * ENTRY_BYTES;
      const offset =
        (piece.getUint32(within) & HIGH_OFFSET) * TWO_32 + ((piece.getUint32(within + 4) & LOW_OFFSET) >>> 0);
      if (offset !== 0) yield { index, at: start + within, offset };
    }
  }

  /** Reads a block, for `count`. */
  load(offset: number): void {
    if (offset === this.#loaded) return;
    readZeroFilled(this.#source, this.#block, offset);
    this.#loaded = offset;
  }

  /** The count at a position of the block that was loaded last; no higher than MOST_USES. */
  count(index: number): number {
    switch (this.#header.refcountOrder) {
      case 3:
        return this.#block[index] ?? 0;
      case 4:
        return Math.min(MOST_USES, this.#view.getUint16(index * 2));
      case 5:
        return Math.min(MOST_USES, this.#view.getUint32(index * 4));
      case 6:
        return this.#view.getUint32(index * 8) !== 0
          ? MOST_USES
          : Math.min(MOST_USES, this.#view.getUint32(index * 8 + 4));
      default: {
        const bits = 2 ** this.#header.refcountOrder;
        const byte = this.#block[Math.floor((index * bits) / 8)] ?? 0;
        return (byte >>> ((index * bits) % 8)) & (2 ** bits - 1);
      }
    }
  }
}
