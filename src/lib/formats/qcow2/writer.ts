/**
 * Owns writing a new qcow2 file of version 3, front to back: header, L1 table, then clusters as they come, each L2
 * table before the clusters that it maps, reference counts at the end. Only one L2 table is in memory, and an
 * interrupted file can be resumed. Clusters that the caller fills need no buffer here: it receives their places.
 */
import type { ByteTarget } from "../../bytes/byte-source.ts";
import { encodeStruct } from "../../bytes/struct.ts";
import { isZero } from "../../bytes/zero.ts";
import { CowError } from "../../errors.ts";
import type { Destination, ImageWriter, NewImageBase, WriterState, WrittenFormat } from "../image-writer.ts";
import {
  bytesPerTable,
  DEFAULT_CLUSTER_BYTES,
  ENTRY_BYTES,
  EXTENSION,
  HIGH_COPIED,
  HIGH_OFFSET,
  LOW_OFFSET,
  LOW_ZERO,
  MAX_BACKING_NAME_BYTES,
  MAX_CLUSTER_BITS,
  MAX_L1_BYTES,
  MAX_REFTABLE_BYTES,
  MIN_CLUSTER_BITS,
  QCOW2_MAGIC,
  SECTOR_BYTES,
  TWO_32,
  V3_LAYOUT,
  WRITTEN_HEADER_BYTES,
} from "./layout.ts";

const REFCOUNT_ORDER = 4;
const REFCOUNT_BYTES = 2;
const ZERO_PIECE_BYTES = 1 << 20;

export interface NewQcow2 {
  /** Rounded up to whole sectors, as QEMU counts in them. */
  readonly virtualSizeBytes: number;
  /** A power of two from 512 to 2 MiB. */
  readonly clusterBytes: number;
  /** As stored in the file: a name relative to the file's directory, or an absolute one. */
  readonly backing?: { readonly name: string; readonly format: string } | undefined;
}

class Qcow2Writer implements ImageWriter {
  readonly unitBytes: number;
  readonly marksZeros = true;
  readonly virtualSizeBytes: number;
  readonly #target: ByteTarget;
  readonly #file: NewQcow2;
  readonly #clusterBytes: number;
  readonly #l1Entries: number;
  readonly #l1Clusters: number;
  readonly #perTable: number;
  readonly #table: Uint8Array;
  readonly #view: DataView;
  /** The L1 index of the table in memory, -1 for none; its offset; whether it differs from the file's. */
  #tableIndex = -1;
  #tableAt = 0;
  #changed = false;
  #next: number;

  /**
   * @param target an empty file
   * @throws CowError `unsuitable` for an image that clusters of this size cannot describe, or a name that is too long
   */
  constructor(target: ByteTarget, file: NewQcow2) {
    this.#target = target;
    this.#file = file;
    this.#clusterBytes = file.clusterBytes;
    this.unitBytes = file.clusterBytes;
    this.virtualSizeBytes = Math.ceil(file.virtualSizeBytes / SECTOR_BYTES) * SECTOR_BYTES;
    this.#perTable = bytesPerTable(file.clusterBytes);
    this.#l1Entries = Math.ceil(this.virtualSizeBytes / this.#perTable);
    this.#l1Clusters = Math.max(1, Math.ceil((this.#l1Entries * ENTRY_BYTES) / file.clusterBytes));
    this.#next = 1 + this.#l1Clusters;
    this.#table = new Uint8Array(file.clusterBytes);
    this.#view = new DataView(this.#table.buffer);
    this.#requireRoom();
    this.#header(0, 0);
  }

  /** Resumes a file in which everything before `offset` of the image is done, as `checkpoint` left it. */
  resume(offset: number, state: WriterState): void {
    const clusters = state["clusters"] ?? 0;
    this.#target.resize(clusters * this.#clusterBytes);
    this.#next = clusters;
    const index = Math.floor(offset / this.#perTable);
    const entry = new DataView(new ArrayBuffer(ENTRY_BYTES));
    this.#target.read(new Uint8Array(entry.buffer), this.#clusterBytes + index * ENTRY_BYTES);
    const at = (entry.getUint32(0) & HIGH_OFFSET) * TWO_32 + ((entry.getUint32(4) & LOW_OFFSET) >>> 0);
    const isBegun = offset % this.#perTable !== 0 && at !== 0 && at < clusters * this.#clusterBytes;
    // Data written after the checkpoint may be incomplete: it is written again.
    this.#clearL1(isBegun ? index + 1 : index);
    if (!isBegun) return;
    this.#tableIndex = index;
    this.#tableAt = at;
    this.#target.read(this.#table, at);
    this.#table.fill(0, ((offset % this.#perTable) / this.#clusterBytes) * ENTRY_BYTES);
    this.#changed = true;
  }

  /**
   * Allocates whole clusters of data; the image's last one may be cut short.
   * @param offset ascending from call to call
   * @returns where the bytes go
   */
  *data(offset: number, length: number): Generator<Destination> {
    for (let at = offset; at < offset + length; ) {
      this.#enter(Math.floor(at / this.#perTable));
      const stop = Math.min(offset + length, (this.#tableIndex + 1) * this.#perTable);
      const host = this.#next * this.#clusterBytes;
      const count = Math.ceil((stop - at) / this.#clusterBytes);
      const first = (at % this.#perTable) / this.#clusterBytes;
      for (let i = 0; i < count; i++) {
        const where = host + i * this.#clusterBytes;
        this.#view.setUint32((first + i) * ENTRY_BYTES, (HIGH_COPIED | Math.floor(where / TWO_32)) >>> 0);
        this.#view.setUint32((first + i) * ENTRY_BYTES + 4, where % TWO_32);
      }
      this.#next += count;
      yield { offset: at, length: stop - at, at: host };
      at = stop;
    }
  }

  /** Marks whole clusters as zero, hiding the backing file's. Without a backing file they stay unallocated. */
  zeros(offset: number, length: number): void {
    if (!this.#file.backing) return;
    for (let at = offset; at < offset + length; at += this.#clusterBytes) {
      this.#enter(Math.floor(at / this.#perTable));
      this.#view.setUint32(((at % this.#perTable) / this.#clusterBytes) * ENTRY_BYTES + 4, LOW_ZERO);
    }
  }

  /** Writes everything that is only in memory, so that `resume` can continue here after a flush. */
  checkpoint(): WriterState {
    if (this.#changed) this.#target.write(this.#table, this.#tableAt);
    return { clusters: this.#next };
  }

  /** Writes tables and reference counts; then the file only needs the caller's flush. */
  finish(): void {
    this.checkpoint();
    const perBlock = this.#clusterBytes / REFCOUNT_BYTES;
    let [blocks, tables] = [0, 0];
    // The blocks of reference counts are counted as well.
    for (let total = this.#next; ; ) {
      blocks = Math.ceil(total / perBlock);
      tables = Math.ceil((blocks * ENTRY_BYTES) / this.#clusterBytes);
      if (this.#next + blocks + tables <= total) break;
      total = this.#next + blocks + tables;
    }
    const firstBlock = this.#next;
    const table = (firstBlock + blocks) * this.#clusterBytes;
    this.#next += blocks + tables;
    const block = new Uint8Array(this.#clusterBytes);
    for (let k = 0; k < perBlock; k++) block[k * REFCOUNT_BYTES + 1] = 1;
    for (let i = 0; i < blocks; i++) {
      block.fill(0, Math.min(perBlock, this.#next - i * perBlock) * REFCOUNT_BYTES);
      this.#target.write(block, (firstBlock + i) * this.#clusterBytes);
      this.#target.write(offsetEntry((firstBlock + i) * this.#clusterBytes, 0), table + i * ENTRY_BYTES);
    }
    this.#header(table, tables);
    this.#target.resize(this.#next * this.#clusterBytes);
  }

  /** Makes the L2 table of that L1 index the one in memory. */
  #enter(index: number): void {
    if (index === this.#tableIndex) return;
    this.checkpoint();
    this.#table.fill(0);
    this.#tableIndex = index;
    this.#tableAt = this.#next++ * this.#clusterBytes;
    this.#target.write(offsetEntry(this.#tableAt, HIGH_COPIED), this.#clusterBytes + index * ENTRY_BYTES);
    this.#changed = true;
  }

  #clearL1(fromIndex: number): void {
    const end = this.#clusterBytes + this.#l1Entries * ENTRY_BYTES;
    const zeros = new Uint8Array(Math.min(ZERO_PIECE_BYTES, this.#l1Clusters * this.#clusterBytes));
    const old = new Uint8Array(zeros.length);
    for (let at = this.#clusterBytes + fromIndex * ENTRY_BYTES; at < end; at += zeros.length) {
      const length = Math.min(zeros.length, end - at);
      this.#target.read(old.subarray(0, length), at);
      if (!isZero(old, 0, length)) this.#target.write(zeros.subarray(0, length), at);
    }
  }

  #requireRoom(): void {
    const refuse = (message: string, hint: string): never => {
      throw new CowError("unsuitable", message, { file: this.#target.name, hints: [hint] });
    };
    // The largest possible file: every cluster, every table.
    const clusters = this.virtualSizeBytes / this.#clusterBytes + this.#l1Entries + this.#l1Clusters + 1;
    const refcountTable = (clusters / (this.#clusterBytes / REFCOUNT_BYTES)) * ENTRY_BYTES * 1.01;
    if (this.#l1Entries * ENTRY_BYTES > MAX_L1_BYTES || refcountTable > MAX_REFTABLE_BYTES) {
      refuse(
        `an image of ${this.virtualSizeBytes} bytes is too large for a qcow2 file with clusters of ${this.#clusterBytes}`,
        "a larger --cluster-size makes room",
      );
    }
    const { backing } = this.#file;
    if (!backing) return;
    const name = Buffer.byteLength(backing.name);
    if (name > MAX_BACKING_NAME_BYTES || extensionsBytes(backing.format) + name > this.#clusterBytes)
      refuse(
        "the name of its backing file is too long to be stored",
        "a shorter name, or larger clusters, make it fit",
      );
  }

  #header(refcountTable: number, refcountTableClusters: number): void {
    const { backing } = this.#file;
    const bytes = new Uint8Array(this.#clusterBytes);
    const nameAt = backing ? extensionsBytes(backing.format) : 0;
    const name = Buffer.from(backing?.name ?? "");
    encodeStruct(
      V3_LAYOUT,
      {
        magic: BigInt(QCOW2_MAGIC),
        version: 3n,
        backing_file_offset: BigInt(nameAt),
        backing_file_size: BigInt(name.length),
        cluster_bits: BigInt(Math.log2(this.#clusterBytes)),
        size: BigInt(this.virtualSizeBytes),
        crypt_method: 0n,
        l1_size: BigInt(this.#l1Entries),
        l1_table_offset: BigInt(this.#clusterBytes),
        refcount_table_offset: BigInt(refcountTable),
        refcount_table_clusters: BigInt(refcountTableClusters),
        nb_snapshots: 0n,
        snapshots_offset: 0n,
        incompatible: 0n,
        compatible: 0n,
        autoclear: 0n,
        refcount_order: BigInt(REFCOUNT_ORDER),
        header_length: BigInt(WRITTEN_HEADER_BYTES),
      },
      bytes,
    );
    if (backing) {
      const view = new DataView(bytes.buffer);
      view.setUint32(WRITTEN_HEADER_BYTES, EXTENSION.backingFormat);
      view.setUint32(WRITTEN_HEADER_BYTES + 4, Buffer.byteLength(backing.format));
      bytes.set(Buffer.from(backing.format), WRITTEN_HEADER_BYTES + 8);
      bytes.set(name, nameAt);
    }
    this.#target.write(bytes, 0);
  }
}

/** The offset of the backing file's name: after header, format, and the end of the extensions. */
function extensionsBytes(format: string): number {
  return WRITTEN_HEADER_BYTES + 8 + Math.ceil(Buffer.byteLength(format) / 8) * 8 + 8;
}

/** A table's entry for `offset`. */
function offsetEntry(offset: number, highFlags: number): Uint8Array {
  const entry = new DataView(new ArrayBuffer(ENTRY_BYTES));
  entry.setUint32(0, (highFlags | Math.floor(offset / TWO_32)) >>> 0);
  entry.setUint32(4, offset % TWO_32);
  return new Uint8Array(entry.buffer);
}

export const qcow2Written: WrittenFormat<"qcow2"> = {
  id: "qcow2",
  base: "optional",
  sizeUnitBytes: SECTOR_BYTES,
  options: ["clusterBytes"],
  layout({ sizeBytes, base, clusterBytes = DEFAULT_CLUSTER_BYTES }) {
    const bits = Math.log2(clusterBytes);
    if (!Number.isInteger(bits) || bits < MIN_CLUSTER_BITS || bits > MAX_CLUSTER_BITS) {
      const [least, most] = [2 ** MIN_CLUSTER_BITS, 2 ** MAX_CLUSTER_BITS];
      throw new CowError("usage", `--cluster-size ${clusterBytes} is no power of two from ${least} to ${most}`);
    }
    const file = { virtualSizeBytes: sizeBytes, clusterBytes, backing: base && backingOf(base) };
    return { granularityBytes: clusterBytes, makeWriter: (target) => new Qcow2Writer(target, file) };
  },
};

/** The backing file as stored in the new one. */
function backingOf({ name, file }: NewImageBase): NonNullable<NewQcow2["backing"]> {
  if (!file || !["raw", "qcow2"].includes(file.format))
    throw new CowError("usage", `"${name}" cannot be a backing file: that is one raw or qcow2 file`, {
      hints: ["convert it to qcow2 first, or leave --base away for a whole image"],
    });
  // QEMU takes the text before a colon for a protocol.
  return { ...file, name: file.name.includes(":") && !file.name.startsWith(".") ? `./${file.name}` : file.name };
}
