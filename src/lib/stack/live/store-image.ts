/**
 * Owns reading and writing an image whose top layer is a writable dm-snapshot store: which bytes lie where, copy-up, zeros.
 * Allocation and the order in which new exceptions reach the disk are the store's business (dm-snapshot/writable-store.ts).
 * One thread only: the map of exceptions is not shared.
 */
import { readZeroFilled } from "../../bytes/byte-source.ts";
import type { Extent } from "../../bytes/extent.ts";
import type { BlockDevice, OnCacheMiss } from "../../device/block-device.ts";
import { CowError } from "../../errors.ts";
import { placesOf } from "../../formats/dm-snapshot/layer.ts";
import { WritableStore } from "../../formats/dm-snapshot/writable-store.ts";
import type { Layer } from "../../formats/format.ts";
import { FileWatch } from "./file-watch.ts";
import type { LiveImage, OnStatus, StatusKind, ZeroOptions } from "./image.ts";
import { blockStatus } from "./status.ts";

/** New chunks are put together and copied in pieces of at most so many bytes, but at least a sector. */
const PIECE_BYTES = 1 << 20;
const ZEROS = new Uint8Array(PIECE_BYTES);

export interface StoreImageParts {
  /** The store, open for writing; whoever opened it closes it, after the image's close(). */
  readonly cow: BlockDevice;
  /** What lies below it, as one device. */
  readonly below: BlockDevice;
  /** The parts of `below`, layers bottom to top. */
  readonly base: BlockDevice;
  readonly layers: readonly Layer[];
  /** The files of all of it. */
  readonly files?: readonly BlockDevice[];
  /** Make the store's file longer where it is full. */
  readonly mayGrow?: boolean;
}

export class DmSnapshotLiveImage implements LiveImage {
  readonly writable = true;
  readonly sizeBytes: number;
  readonly zeroesFast: boolean;
  readonly #store: WritableStore;
  readonly #cow: BlockDevice;
  readonly #below: BlockDevice;
  readonly #chunkBytes: number;
  readonly #parts: { readonly base: BlockDevice; readonly layers: readonly Layer[] };
  readonly #watch: FileWatch;
  #scratch: Uint8Array | undefined;
  #failed = false;

  /** @throws CowError as for reading a store: nothing that is damaged, or that a kernel gave up, is extended */
  constructor({ cow, below, base, layers, mayGrow, files = [] }: StoreImageParts) {
    this.#watch = new FileWatch(files);
    this.#store = new WritableStore(cow, { below, mayGrow });
    this.#cow = cow;
    this.#below = below;
    this.#chunkBytes = this.#store.geometry.chunkBytes;
    this.sizeBytes = below.sizeBytes;
    this.#parts = { base, layers: [...layers, this.#topLayer()] };
    this.zeroesFast = this.#canPunch();
  }

  get name(): string {
    return this.#cow.name;
  }

  get failed(): boolean {
    return this.#failed;
  }

  /** Exceptions of the store, those included that are not yet committed. */
  get exceptions(): number {
    return this.#store.count;
  }

  /** Where tuples begin that a killed writer left behind the end of the list, and that go when it is extended. */
  get staleAt(): number | undefined {
    return this.#store.staleAt;
  }

  #places(from: number, to: number): ReturnType<typeof placesOf> {
    return placesOf(this.#store.map, this.#store.geometry, this.#cow, from, to);
  }

  lookAtFiles(): void {
    this.#watch.look();
  }

  read(target: Uint8Array, offsetBytes: number): void {
    const end = offsetBytes + target.length;
    let at = offsetBytes;
    for (const place of this.#places(offsetBytes, end)) {
      if (place.offset > at)
        readZeroFilled(this.#below, target.subarray(at - offsetBytes, place.offset - offsetBytes), at);
      at = place.offset + place.length;
      readZeroFilled(this.#cow, target.subarray(place.offset - offsetBytes, at - offsetBytes), place.at);
    }
    if (at < end) readZeroFilled(this.#below, target.subarray(at - offsetBytes), at);
  }

  addressOf(): number {
    return 0;
  }

  invalidateMappings(): void {
    // There are none.
  }

  tryRead(target: Uint8Array, offsetBytes: number, onCacheMiss: OnCacheMiss): boolean {
    for (const place of this.#places(offsetBytes, offsetBytes + target.length)) {
      // What lies in two places is rare enough to be waited for.
      return place.length === target.length && (this.#cow.tryRead?.(target, place.at, onCacheMiss) ?? false);
    }
    return this.#below.tryRead?.(target, offsetBytes, onCacheMiss) ?? false;
  }

  write(source: Uint8Array, offsetBytes: number): void {
    this.#change(offsetBytes, source.length, (at, length) =>
      source.subarray(at - offsetBytes, at - offsetBytes + length),
    );
  }

  /** Writes `[offset, offset + length)`, part by part; `dataOf` gives the bytes of at most PIECE_BYTES of it. */
  #change(offset: number, length: number, dataOf: (at: number, length: number) => Uint8Array): void {
    if (length === 0) return;
    this.#requireKept();
    const chunkBytes = this.#chunkBytes;
    const end = offset + length;
    const endChunk = Math.ceil(end / chunkBytes);
    let chunk = Math.floor(offset / chunkBytes);
    this.#store.reserve(this.#missing(chunk, endChunk));
    while (chunk < endChunk) {
      const here = this.#store.map.get(chunk);
      const from = Math.max(offset, chunk * chunkBytes);
      if (here !== 0) {
        const to = Math.min(end, (chunk + 1) * chunkBytes);
        this.#put(here * chunkBytes + (from - chunk * chunkBytes), from, to, dataOf);
        chunk++;
        continue;
      }
      const count = this.#store.inRow(this.#gap(chunk, endChunk));
      this.#putNew(chunk, count, Math.max(offset, from), Math.min(end, (chunk + count) * chunkBytes), dataOf);
      chunk += count;
    }
  }

  /** Chunks of `[from, to)` without an exception. */
  #missing(from: number, to: number): number {
    let missing = to - from;
    for (const { count } of this.#store.map.runs(from, to)) missing -= count;
    return missing;
  }

  /** Chunks from `chunk` on, which has no exception, up to the next one that has. */
  #gap(chunk: number, end: number): number {
    for (const { old } of this.#store.map.runs(chunk, end)) return old - chunk;
    return end - chunk;
  }

  #put(at: number, from: number, to: number, dataOf: (at: number, length: number) => Uint8Array): void {
    for (let done = from; done < to; done += PIECE_BYTES) {
      this.#cow.write(dataOf(done, Math.min(PIECE_BYTES, to - done)), at + (done - from));
    }
  }

  /** Fills new chunks, the rest of the first and of the last one from below, and only then takes them. */
  #putNew(
    chunk: number,
    count: number,
    from: number,
    to: number,
    dataOf: (at: number, length: number) => Uint8Array,
  ): void {
    const start = chunk * this.#chunkBytes;
    const stop = Math.min(start + count * this.#chunkBytes, this.sizeBytes);
    const shift = this.#store.nextFree * this.#chunkBytes - start;
    if (stop - start <= PIECE_BYTES && (start < from || to < stop)) {
      // In one piece, and one write.
      this.#scratch ??= new Uint8Array(PIECE_BYTES);
      const piece = this.#scratch.subarray(0, stop - start);
      if (start < from) readZeroFilled(this.#below, piece.subarray(0, from - start), start);
      piece.set(dataOf(from, to - from), from - start);
      if (to < stop) readZeroFilled(this.#below, piece.subarray(to - start), to);
      this.#cow.write(piece, start + shift);
    } else {
      this.#copyUp(start, from, shift);
      this.#put(from + shift, from, to, dataOf);
      this.#copyUp(to, stop, shift);
    }
    this.#store.take(chunk, count);
  }

  #copyUp(from: number, to: number, shift: number): void {
    if (from >= to) return;
    this.#scratch ??= new Uint8Array(PIECE_BYTES);
    for (let at = from; at < to; at += PIECE_BYTES) {
      const piece = this.#scratch.subarray(0, Math.min(PIECE_BYTES, to - at));
      readZeroFilled(this.#below, piece, at);
      this.#cow.write(piece, at + shift);
    }
  }

  zero(offsetBytes: number, lengthBytes: number, { mayPunch }: ZeroOptions): void {
    this.#requireKept();
    const end = offsetBytes + lengthBytes;
    // What nobody holds and is a hole below is zero already, and stays so: what lies below does not change.
    const parts = mayPunch
      ? [...this.#notZeroByItself(offsetBytes, end)]
      : [{ offset: offsetBytes, length: lengthBytes }];
    for (const { offset, length } of parts) {
      let at = offset;
      if (mayPunch && this.zeroesFast) {
        for (const place of [...this.#places(offset, offset + length)]) {
          this.#writeZeros(at, place.offset);
          if (!this.#cow.punchHole(place.at, place.length)) this.#writeZeros(place.offset, place.offset + place.length);
          at = place.offset + place.length;
        }
      }
      this.#writeZeros(at, offset + length);
    }
  }

  #writeZeros(from: number, to: number): void {
    this.#change(from, Math.max(0, to - from), (_at, length) => ZEROS.subarray(0, length));
  }

  /** Parts of `[from, to)` that are held here, or may be data below. */
  *#notZeroByItself(from: number, to: number): Generator<Extent> {
    let at = from;
    const below = (start: number, end: number) => this.#below.dataExtents(start, end);
    for (const { offset, length } of [...this.#places(from, to)]) {
      if (offset > at) yield* below(at, offset);
      yield { offset, length };
      at = offset + length;
    }
    if (at < to) yield* below(at, to);
  }

  /** As the kernel's discard_zeroes_cow: whole chunks that have an exception become zero, all others are left alone. */
  trim(offsetBytes: number, lengthBytes: number): void {
    if (!this.zeroesFast) return;
    this.#requireKept();
    const chunkBytes = this.#chunkBytes;
    const end = offsetBytes + lengthBytes;
    const from = Math.ceil(offsetBytes / chunkBytes) * chunkBytes;
    // The image's last chunk may be a part of one.
    const to = end >= this.sizeBytes ? this.sizeBytes : Math.floor(end / chunkBytes) * chunkBytes;
    for (const place of from < to ? [...this.#places(from, to)] : []) this.#cow.punchHole(place.at, place.length);
  }

  commit(): void {
    this.#requireKept();
    this.#keep(() => this.#store.commit());
  }

  flush(): void {
    this.#requireKept();
    this.#keep(() => this.#store.flush());
  }

  /** The kernel may have dropped what it could not write: after a failure nothing that is not on disk is known to be. */
  #keep(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#failed = true;
      throw error;
    }
  }

  #requireKept(): void {
    if (!this.#failed) return;
    throw new CowError("io", "something written before could not be made durable: the store must be opened again", {
      file: this.name,
    });
  }

  cache(): void {
    // The kernel reads ahead by itself.
  }

  #topLayer(): Layer {
    const places = (from: number, to: number) => this.#places(from, to);
    return {
      formatId: "dm-snapshot",
      name: this.name,
      granularityBytes: this.#chunkBytes,
      virtualSizeBytes: this.sizeBytes,
      base: { blocks: undefined, blockBytes: this.#chunkBytes, fingerprint: undefined },
      extents: places,
      places,
    };
  }

  status(kind: StatusKind, offsetBytes: number, lengthBytes: number, onStatus: OnStatus): void {
    blockStatus(kind, this.#parts, [offsetBytes, offsetBytes + lengthBytes], onStatus);
  }

  /** Tried where nothing is lost: on the chunk that is the next to be filled, be it beyond the end of the file. */
  #canPunch(): boolean {
    return this.#cow.punchHole(this.#store.nextFree * this.#chunkBytes, this.#chunkBytes);
  }
}
