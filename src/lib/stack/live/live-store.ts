/**
 * Owns a dm-snapshot store as the writable layer of a served image: claims of its chunks, and the effect of a failure.
 * The store owns allocation, and the order in which new exceptions reach the disk (dm-snapshot/writable-store.ts). One
 * thread only: the map of exceptions is not shared.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import { CowError } from "../../errors.ts";
import type { DmSnapshotLayer } from "../../formats/dm-snapshot/layer.ts";
import { WritableStore, type WritableStoreOptions } from "../../formats/dm-snapshot/writable-store.ts";
import { NOT_ALLOCATED } from "../../formats/format.ts";
import { Claim } from "./claim.ts";
import { SpaceReserve } from "./space-reserve.ts";
import { SpaceUsage } from "./space-usage.ts";
import type { PlacedData, WritableLayer } from "./writable-layer.ts";

export class LiveStore implements WritableLayer {
  /** As the kernel's discard_zeroes_cow: chunks that are not allocated are left alone. */
  readonly trimsBacking = false;
  readonly file: BlockDevice;
  readonly layer: DmSnapshotLayer;
  readonly unitBytes: number;
  readonly sizeBytes: number;
  readonly canPunch: boolean;
  readonly reserve: SpaceReserve;
  readonly usage: SpaceUsage;
  readonly store: WritableStore;
  readonly #claim = new Claim();
  #failed = false;

  /**
   * @param file the store, open for writing; the opener closes it
   * @throws CowError as for reading a store: nothing that is damaged, or that a kernel gave up, is extended
   */
  constructor(file: BlockDevice, options: WritableStoreOptions & { readonly reserve?: SpaceReserve }) {
    this.file = file;
    this.store = new WritableStore(file, options);
    this.layer = this.store.layer;
    this.unitBytes = this.layer.granularityBytes;
    this.sizeBytes = this.layer.virtualSizeBytes;
    this.usage = new SpaceUsage(SpaceUsage.newMemory(this.store.count), this.unitBytes, file.name);
    this.reserve = options.reserve ?? new SpaceReserve(file.name, 0);
    // Tried on the next chunk to be used, where nothing can be lost, even beyond the end of the file.
    this.canPunch = file.punchHole(this.store.nextFree * this.unitBytes, this.unitBytes);
  }

  get failed(): boolean {
    return this.#failed;
  }

  get unitsInRow(): number {
    return this.store.inRow(Number.POSITIVE_INFINITY);
  }

  makeRoom(offsetBytes: number, endBytes: number): void {
    this.#requireSound();
    if (offsetBytes === endBytes) return;
    const [first, end] = [Math.floor(offsetBytes / this.unitBytes), Math.ceil(endBytes / this.unitBytes)];
    let missing = end - first;
    for (const { count } of this.store.map.runs(first, end)) missing -= count;
    this.usage.requireRoom(missing);
    this.store.reserve(missing);
  }

  claim(offsetBytes: number, endBytes: number): Claim {
    const claim = this.#claimRun(offsetBytes, endBytes);
    if (claim.isAllocated) return claim;
    claim.end = Math.min(claim.end, claim.first + this.unitsInRow);
    claim.bounds[1] = claim.end;
    return claim;
  }

  /** One run: chunks that are contiguous, or not allocated. */
  #claimRun(offset: number, end: number): Claim {
    this.#requireSound();
    const claim = this.#claim;
    claim.first = Math.floor(offset / this.unitBytes);
    claim.end = Math.ceil(this.layer.findRun(offset, end) / this.unitBytes);
    claim.bounds.length = 0;
    if (this.layer.foundAt === NOT_ALLOCATED) claim.bounds.push(claim.first, claim.end);
    else claim.shift = this.layer.foundAt - offset;
    return claim;
  }

  isSettled(claim: Claim): boolean {
    return claim.isAllocated;
  }

  hold(): void {
    // There is no other thread.
  }

  claimLong(offsetBytes: number, endBytes: number, work: (claim: Claim) => void): number {
    const claim = this.#claimRun(offsetBytes, endBytes);
    work(claim);
    return claim.end;
  }

  change(claim: Claim, work: (file: BlockDevice) => void): void {
    const count = claim.freshCount;
    this.usage.take(count);
    try {
      this.store.reserve(count);
      if (count > 0) claim.shift = (this.store.nextFree - claim.first) * this.unitBytes;
      work(this.file);
    } catch (error) {
      this.usage.giveBack(count);
      throw error;
    }
    if (count > 0) this.store.take(claim.first, count);
  }

  rewrite({ source }: PlacedData, fileOffset: number): void {
    this.file.write(source, fileOffset);
  }

  punch(file: BlockDevice, fileOffset: number, lengthBytes: number): boolean {
    return file.punchHole(fileOffset, lengthBytes);
  }

  commit(): void {
    this.#keep(() => this.store.commit());
  }

  flush(): void {
    this.#keep(() => this.store.flush());
  }

  /** The kernel may have dropped unwritten data: after a failure, only earlier flushes are known to be on disk. */
  #keep(work: () => void): void {
    this.#requireSound();
    try {
      work();
    } catch (error) {
      this.#failed = true;
      throw error;
    }
  }

  #requireSound(): void {
    if (!this.#failed) return;
    throw new CowError("io", "something written before could not be made durable: the store must be opened again", {
      file: this.file.name,
    });
  }
}
