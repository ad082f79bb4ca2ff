/**
 * Owns a store that is being extended: allocation as the kernel does it, and the order in which new exceptions reach the
 * disk: data; zeros in the area after one that becomes full; flush; tuples. Until its tuple is there, a chunk is as it was.
 *
 * A power cut loses only exceptions that no later flush covered. As with the kernel, tuples that were under way then may
 * be there without one before them: the list ends before these, and the next writer has to zero them first.
 */
import type { ByteSource, ByteTarget } from "../../bytes/byte-source.ts";
import { formatSize } from "../../bytes/size.ts";
import { CowError } from "../../errors.ts";
import { ChunkColumn } from "./chunk-column.ts";
import type { ExceptionMap } from "./exception-map.ts";
import { DmSnapshotLayer } from "./layer.ts";
import { areaChunk, dataChunk, dataIndex, SECTOR_BYTES, type StoreGeometry, skipMetadata } from "./layout.ts";
import { writeTuples, writeZeros, zeroTuples } from "./tuples.ts";

const GROW_BYTES = 16 << 20;

export interface WritableStoreOptions {
  /** The backing. */
  readonly below?: ByteSource | undefined;
  /** Make the file longer where it is full. */
  readonly mayGrow?: boolean | undefined;
}

export class WritableStore {
  readonly target: ByteTarget;
  /** Its contents, including exceptions that are not committed. */
  readonly layer: DmSnapshotLayer;
  readonly geometry: StoreGeometry;
  /** Exceptions, including those that are not committed. */
  readonly map: ExceptionMap;
  readonly #mayGrow: boolean;
  readonly #newOlds = new ChunkColumn();
  readonly #newNews = new ChunkColumn();
  #committed: number;
  #nextFree: number;
  #stale: { readonly offset: number; readonly length: number } | undefined;

  /** @throws CowError as for reading: a store that is damaged, or that a kernel gave up, is not extended */
  constructor(target: ByteTarget, { below, mayGrow }: WritableStoreOptions) {
    this.layer = new DmSnapshotLayer(target, { below, lenient: false });
    const { geometry, verdicts } = this.layer.opened;
    this.target = target;
    this.geometry = geometry;
    this.map = verdicts.map;
    this.#mayGrow = mayGrow ?? false;
    this.#committed = verdicts.scan.olds.length;
    this.#nextFree = Number(verdicts.scan.nextFree);
    this.#stale = verdicts.scan.stale;
  }

  /** The offset of bytes after the end of the list, if there are any; the next commit zeroes them. */
  get staleAt(): number | undefined {
    return this.#stale?.offset;
  }

  /** Exceptions of the list, including those that are not committed. */
  get count(): number {
    return this.#committed + this.#newOlds.length;
  }

  /** The chunk that the next exception gets. */
  get nextFree(): number {
    return this.#nextFree;
  }

  get hasUncommitted(): boolean {
    return this.#newOlds.length > 0;
  }

  /**
   * Makes sure that `count` more exceptions fit, and with the last of an area the next area; makes the file longer if it may.
   *
   * @throws CowError `no-space`; then nothing has changed
   */
  reserve(count: number): void {
    if (count === 0) return;
    const { geometry, target } = this;
    const last = dataChunk(geometry, dataIndex(geometry, this.#nextFree) + count - 1);
    const area = Math.floor((this.count + count) / geometry.perArea);
    const needed = Math.max(last, areaChunk(geometry, area)) + 1;
    const chunks = Math.floor(Math.floor(target.sizeBytes / SECTOR_BYTES) / geometry.chunkSectors);
    if (needed <= chunks) return;
    if (!this.#mayGrow) {
      throw new CowError(
        "no-space",
        `the store is full: ${count === 1 ? "a further chunk" : `${count} further chunks`} of ${formatSize(geometry.chunkBytes)} would need ${formatSize(needed * geometry.chunkBytes)}`,
        { file: target.name, details: { needed_bytes: needed * geometry.chunkBytes, store_bytes: target.sizeBytes } },
      );
    }
    const step = Math.max(1, GROW_BYTES / geometry.chunkBytes);
    target.resize(Math.ceil(needed / step) * step * geometry.chunkBytes);
  }

  /** How many of `count` further exceptions are contiguous from nextFree on. */
  inRow(count: number): number {
    const { strideChunks } = this.geometry;
    const within = (this.#nextFree - 1) % strideChunks;
    return Math.min(count, strideChunks - within);
  }

  /**
   * Gives the next chunks of the store to chunks `old` and following, none of which has an exception; `count` as inRow()
   * said, after reserve(). Their data must be written already.
   */
  take(old: number, count: number): void {
    for (let i = 0; i < count; i++) {
      this.map.add(old + i, this.#nextFree);
      this.#newOlds.push(old + i);
      this.#newNews.push(this.#nextFree);
      this.#nextFree++;
    }
    this.#nextFree = skipMetadata(this.geometry, this.#nextFree);
  }

  /**
   * Adds new exceptions to the store, once their data is durable. They then survive the process, and after the next
   * flush a power cut.
   */
  commit(): void {
    const olds = this.#newOlds;
    const news = this.#newNews;
    if (olds.length === 0) return;
    const { target, geometry } = this;
    if (this.#stale) writeZeros(target, this.#stale.offset, this.#stale.offset + this.#stale.length);
    const areaAfter = Math.floor(this.count / geometry.perArea);
    for (let area = Math.floor(this.#committed / geometry.perArea) + 1; area <= areaAfter; area++) {
      zeroTuples(target, geometry, area * geometry.perArea, area + 1);
    }
    target.flush();
    this.#stale = undefined;
    writeTuples(target, geometry, this.#committed, {
      length: olds.length,
      oldAt: (index) => olds.at(index),
      newAt: (index) => news.at(index),
    });
    this.#committed += olds.length;
    olds.truncate(0);
    news.truncate(0);
  }

  /** Makes everything durable. */
  flush(): void {
    this.commit();
    this.target.flush();
  }
}
