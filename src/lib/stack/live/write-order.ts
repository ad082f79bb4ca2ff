/**
 * Owns the order in which a writable cowfile's parts reach the disk: the one place that decides what is on disk when.
 *
 *   at open                    a journal, not durable, nor is its name: a clean cowfile needs none
 *   before the first change    fdatasync of the journal, fsync of its directory; room in the journal; head: dirty, with our
 *                              stamp; fdatasync
 *   a write to allocated blocks  data in place
 *   a write that allocates     data and the copied-up rest of each block; then the mark in memory; then an entry in the
 *                              journal (no fsync); only then the reply
 *   checkpoint                 the marks so far are taken down; fdatasync (data); those pages of the bitmap; fdatasync
 *   flush, FUA                 of a few small writes: a record with their data in the flush log; fdatasync of the journal;
 *                              of all else: a checkpoint
 *   orderly close              checkpoint; head: clean, recounted, without stamp; fdatasync; journal removed; if nothing was
 *                              changed, only that
 *
 * So a head that is dirty on disk has its journal beside it on disk. A mark is on disk only when its data is (a power cut leaves old or new, nothing else), and a mark that was replied
 * to is at least in the journal (a killed process loses nothing). An fsync that failed is never forgotten.
 *
 * What a flush may overlook: nothing that was replied to before it. Two rules hold it, whatever the threads do in between:
 *
 *   a change      the data, then the marks, and only then the word that there is something to flush (UNFLUSHED);
 *                 what the flush log remembers: all three and the memory of it as one, under the LOG lock
 *   a checkpoint  takes that word back, and forgets what the log remembered, as one under the LOG lock and before all
 *                 else; only then it looks at pages and calls fdatasync
 *
 * So a checkpoint that takes the word of a change back covers all of it, and a change that a checkpoint has missed, or
 * seen in part, says so after it. change() is the only way to the file's data and to marks.
 *
 * The journal's halves: a checkpoint switches to the other half, and only then looks for pages with new marks, from the first
 * one on. So every mark whose entry is in the half it left is in a page it takes, and that half is free once these are on disk.
 *
 * Threads: a region's lock is held from a claim on its blocks until the entries of their marks are written, so that no
 * block is rewritten, and the write replied to, on the strength of a mark that a crash would take away. A thread that finds
 * a lock taken commits what it holds before it waits: no thread waits while it holds a lock.
 *
 * A range is looked up once. claim() comes before the lock, since most writes find everything allocated and need none.
 * hold() takes the lock, and looks again only if blocks were allocated under it in between: marks are never taken back.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { Checkpoint, type OrderParts } from "./checkpoint.ts";
import { Claim } from "./claim.ts";
import { reachTo } from "./file-end.ts";
import { MAX_BATCH } from "./journal-writer.ts";
import { lock, tryLock, unlock, withLock } from "./mutex.ts";
import { announce, Control, Failure, LOCKS, PageState, pageOf, REGION_BLOCKS } from "./shared-state.ts";
import type { PlacedData, WritableLayer } from "./writable-layer.ts";

/** The most regions of a long claim: other writers wait only briefly, and its journal entries fit into one batch. */
const LONG_REGIONS = (2 * MAX_BATCH) / REGION_BLOCKS;

/** A claim on no blocks: they are all allocated. */
const NO_BLOCKS = new Claim();

export class WriteOrder implements WritableLayer {
  readonly unitBytes = BLOCK_BYTES;
  /** Every block has its place. */
  readonly unitsInRow = Number.POSITIVE_INFINITY;
  readonly trimsBacking = true;
  readonly layer: OrderParts["layer"];
  readonly file: BlockDevice;
  readonly sizeBytes: number;
  readonly reserve: OrderParts["reserve"];
  readonly usage: OrderParts["usage"];
  readonly #parts: OrderParts;
  readonly #checkpoint: Checkpoint;
  readonly #control: Int32Array;
  readonly #locks: Int32Array;
  readonly #allocations: Int32Array;
  readonly #pages: Uint8Array;
  /** Locks that this thread holds until its next commit, as a list and by index. */
  readonly #held: number[] = [];
  readonly #mine = new Uint8Array(LOCKS);
  /** Was anything marked since the last commit? */
  #hasFresh = false;
  /** Used again for each look: a thread has one claim at a time. */
  readonly #claim = new Claim();

  constructor(parts: OrderParts) {
    this.#parts = parts;
    this.layer = parts.layer;
    this.file = parts.cow;
    this.sizeBytes = parts.sizeBytes;
    this.reserve = parts.reserve;
    this.usage = parts.usage;
    this.#claim.shift = parts.layer.dataOffsetBytes;
    this.#checkpoint = new Checkpoint(parts);
    this.#control = parts.state.control;
    this.#locks = parts.state.locks;
    this.#allocations = parts.state.allocations;
    this.#pages = parts.state.pages;
  }

  get canPunch(): boolean {
    return this.#control[Control.CAN_PUNCH] === 1;
  }

  static regionOf(block: number): number {
    return Math.floor(block / REGION_BLOCKS);
  }

  /** What comes before the first change of anything in the file. @throws CowError `io`, `no-space` */
  makeReady(): void {
    if (Atomics.load(this.#control, Control.HEAD_DIRTY) === 1) return;
    const { head } = this.#parts;
    withLock(this.#control, Control.ORDER, () => {
      if (Atomics.load(this.#control, Control.HEAD_DIRTY) === 1) return;
      if (head) {
        this.#checkpoint.requireSound();
        this.#parts.journal?.begin();
        Atomics.store(this.#control, Control.HEAD_DIRTY, 2);
        head.markDirty();
        this.#checkpoint.sync();
      }
      Atomics.store(this.#control, Control.HEAD_DIRTY, 1);
    });
  }

  /**
   * Changes the data of the claimed blocks, and marks those that are not allocated yet; for these the regions are held.
   *
   * @param work changes the data, through the device it is given
   * @param whole what `work` writes, if it is one piece: the flush log can remember it then
   * @throws CowError `io` (also after a commit or an fsync that failed), `no-space`; part of it may be done then
   */
  change(claim: Claim, work: (cow: BlockDevice) => void, whole?: PlacedData): void {
    const { cow, log } = this.#parts;
    const fresh = claim.freshCount;
    this.makeReady();
    this.#prepare(claim.runCount);
    this.usage.take(fresh);
    let isRemembered = false;
    const workAndMark = (): void => {
      work(cow);
      this.#mark(claim);
    };
    try {
      if (whole && log) isRemembered = log.remember(whole, workAndMark);
      if (!isRemembered) workAndMark();
    } catch (error) {
      this.usage.giveBack(fresh);
      if (!claim.isAllocated) Atomics.store(this.#control, Control.RESIDUE, 1);
      throw error;
    } finally {
      if (!isRemembered) announce(this.#control);
    }
    this.#checkpoint.requireSound();
  }

  rewrite(whole: PlacedData, fileOffset: number): void {
    this.change(NO_BLOCKS, (cow) => cow.write(whole.source, fileOffset), whole);
  }

  punch(cow: BlockDevice, fileOffset: number, lengthBytes: number): boolean {
    if (!cow.punchHole(fileOffset, lengthBytes)) return false;
    reachTo(cow, fileOffset + lengthBytes, this.#control);
    return true;
  }

  makeRoom(): void {
    // How much room a write takes is known once it is looked up.
  }

  /** At most to the end of a region. */
  claim(offsetBytes: number, endBytes: number): Claim {
    const first = Math.floor(offsetBytes / BLOCK_BYTES);
    const regionEnd = (WriteOrder.regionOf(first) + 1) * REGION_BLOCKS;
    return this.#look(first, Math.min(regionEnd, Math.ceil(endBytes / BLOCK_BYTES)));
  }

  /** Looks up which of the blocks `[first, end)` are allocated. */
  #look(first: number, end: number): Claim {
    this.#claim.allocations = Atomics.load(this.#allocations, WriteOrder.regionOf(first) % LOCKS);
    this.#claim.look(this.#parts.map, first, end);
    return this.#claim;
  }

  /** Marks can be relied on without holding their region's lock once they are in the journal. */
  isSettled(claim: Claim): boolean {
    if (!claim.isAllocated) return false;
    const index = WriteOrder.regionOf(claim.first) % LOCKS;
    return Atomics.load(this.#locks, index) === 0 || this.#mine[index] === 1;
  }

  /** Takes the lock of a claim's region and keeps it until commit(). The claim is up to date then. */
  hold(claim: Claim): void {
    const index = WriteOrder.regionOf(claim.first) % LOCKS;
    if (this.#mine[index] === 1) return;
    if (!tryLock(this.#locks, index)) {
      this.commit();
      lock(this.#locks, index);
    }
    this.#keep(index);
    if (Atomics.load(this.#allocations, index) !== claim.allocations) this.#look(claim.first, claim.end);
  }

  #keep(index: number): void {
    this.#held.push(index);
    this.#mine[index] = 1;
  }

  claimLong(offsetBytes: number, endBytes: number, work: (claim: Claim) => void): number {
    const first = Math.floor(offsetBytes / BLOCK_BYTES);
    const limit = (WriteOrder.regionOf(first) + LONG_REGIONS) * REGION_BLOCKS;
    const end = Math.min(limit, Math.ceil(endBytes / BLOCK_BYTES));
    const claim = this.#holdAll(first, end);
    try {
      work(claim);
    } finally {
      this.commit();
    }
    return end;
  }

  /** Claims the blocks `[first, end)` of many regions, none held before; locks are taken in an order that all threads keep. */
  #holdAll(first: number, end: number): Claim {
    this.commit();
    const indexes = new Set<number>();
    for (let region = WriteOrder.regionOf(first); region <= WriteOrder.regionOf(end - 1); region++)
      indexes.add(region % LOCKS);
    for (const index of [...indexes].sort((a, b) => a - b)) {
      lock(this.#locks, index);
      this.#keep(index);
    }
    return this.#look(first, end);
  }

  /**
   * Reserves journal entries for this many runs of blocks, before their data is written.
   *
   * @throws CowError `no-space`, `io`
   */
  #prepare(runs: number): void {
    const { journal } = this.#parts;
    if (!journal || runs === 0) return;
    if (!journal.canAdd(runs)) this.#writeJournal();
    if (!journal.promise(runs)) this.#checkpoint.make();
  }

  /** Marks the unallocated runs of a claim, which were prepared and whose data is in the file. */
  #mark(claim: Claim): void {
    const { map, journal } = this.#parts;
    const { bounds } = claim;
    for (let i = 0; i < bounds.length; i += 2) {
      const first = bounds[i] ?? 0;
      const end = bounds[i + 1] ?? 0;
      map.assign(first, end, true);
      for (let page = pageOf(first); page <= pageOf(end - 1); page++)
        Atomics.store(this.#pages, page, PageState.CHANGED);
      for (let region = WriteOrder.regionOf(first); region <= WriteOrder.regionOf(end - 1); region++)
        Atomics.add(this.#allocations, region % LOCKS, 1);
      this.#hasFresh = true;
      journal?.add(first, end - first);
    }
  }

  /**
   * Makes what was marked since the last commit outlive this process, and lets go of the locks. No reply to a write
   * goes out before it.
   *
   * @throws CowError where neither journal nor bitmap takes the marks, in spite of the room made for them: none of the
   * writes since the last commit may be replied to, and nothing can be promised any more
   */
  commit(): void {
    if (this.#held.length === 0) return;
    try {
      this.#writeJournal();
    } finally {
      this.#parts.journal?.forget();
      this.#letGo();
    }
  }

  #writeJournal(): void {
    const { journal } = this.#parts;
    if (!this.#hasFresh) return;
    this.#hasFresh = false;
    try {
      if (journal && !journal.write()) this.#checkpoint.make();
    } catch (error) {
      // Allocations that other threads may have seen can't be undone: writes that relied on them must not be answered.
      Atomics.store(this.#control, Control.FAILED, Failure.COMMIT);
      throw error;
    } finally {
      journal?.forget();
    }
  }

  #letGo(): void {
    for (const index of this.#held) {
      this.#mine[index] = 0;
      unlock(this.#locks, index);
    }
    this.#held.length = 0;
  }

  /**
   * Makes every change durable that any thread was told to be done before this call.
   *
   * @throws CowError `io` (also for ever after an fsync has failed), `no-space`
   */
  flush(): void {
    const wanted = Atomics.load(this.#control, Control.FLUSHES_STARTED) + 1;
    this.commit();
    if (this.#parts.head) this.#checkpoint.flush(wanted);
  }

  /** As flush(), with everything in its place in the cowfile itself. */
  checkpoint(): void {
    this.commit();
    if (this.#parts.head) this.#checkpoint.make();
  }

  /** Has a commit failed, of any thread? Then replies that wait must not go out. */
  get failed(): boolean {
    return Atomics.load(this.#control, Control.FAILED) === Failure.COMMIT;
  }
}
