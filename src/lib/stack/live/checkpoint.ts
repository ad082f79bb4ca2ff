/**
 * Owns flushes of a writable cowfile, from any thread: a record in the flush log if that is enough, else a checkpoint,
 * which writes data and bitmap in the right order. write-order.ts owns the order of everything else.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import { CowError } from "../../errors.ts";
import { BITMAP_OFFSET_BYTES } from "../../formats/cowfile/layout.ts";
import type { BlockMap } from "./block-map.ts";
import { type FlushLogWriter, LogState } from "./flush-log-writer.ts";
import type { HeadWriter } from "./head-writer.ts";
import { type JournalWriter, switchHalf } from "./journal-writer.ts";
import { withLock } from "./mutex.ts";
import type { ResidentLayer } from "./resident-layer.ts";
import { announce, Control, Failure, MAP_PAGE_BYTES, PageState, type SharedState, Unflushed } from "./shared-state.ts";
import type { SpaceReserve } from "./space-reserve.ts";
import type { SpaceUsage } from "./space-usage.ts";

export interface OrderParts {
  readonly cow: BlockDevice;
  readonly map: BlockMap;
  readonly state: SharedState;
  /** Undefined for a throw-away layer. */
  readonly head: HeadWriter | undefined;
  /** Undefined for a throw-away layer. */
  readonly journal: JournalWriter | undefined;
  /** Undefined without a stamp. */
  readonly log: FlushLogWriter | undefined;
  readonly mapSizeBytes: number;
  /** The map as a layer, over the file. */
  readonly layer: ResidentLayer;
  /** Of the image. */
  readonly sizeBytes: number;
  readonly reserve: SpaceReserve;
  readonly usage: SpaceUsage;
}

interface PageCopy {
  readonly page: number;
  readonly bytes: Uint8Array;
}

export class Checkpoint {
  readonly #parts: OrderParts;
  readonly #control: Int32Array;
  readonly #pages: Uint8Array;

  constructor(parts: OrderParts) {
    this.#parts = parts;
    this.#control = parts.state.control;
    this.#pages = parts.state.pages;
  }

  /** Makes everything durable, in its place. @throws CowError `io`, `no-space` */
  make(): void {
    this.flush(undefined);
  }

  /**
   * @param wanted spares the work if a flush with this number or a later one has been done meanwhile; undefined: it takes
   *   a checkpoint, and a record in the flush log is not enough
   */
  flush(wanted: number | undefined): void {
    const mayLog = wanted !== undefined;
    withLock(this.#control, Control.ORDER, () => {
      this.requireSound();
      // A difference, because the numbers wrap.
      if (mayLog && ((Atomics.load(this.#control, Control.FLUSHES_DONE) - wanted) | 0) >= 0) return;
      const number = Atomics.add(this.#control, Control.FLUSHES_STARTED, 1) + 1;
      if (!mayLog || !this.#flushToLog()) this.#flushInPlace(mayLog);
      Atomics.store(this.#control, Control.FLUSHES_DONE, number);
    });
  }

  /** @returns false if a checkpoint is needed */
  #flushToLog(): boolean {
    const { log } = this.#parts;
    if (!log?.isComplete) return false;
    if (!log.hasPending) return true;
    return log.state === LogState.READY && log.flush();
  }

  /** @param mayAnnounce is this a flush that the log could have covered? */
  #flushInPlace(mayAnnounce: boolean): void {
    const { log } = this.#parts;
    const announces = mayAnnounce && log?.isComplete === true && log.state === LogState.UNANNOUNCED;
    const logCounts = announces || (log?.isInUse ?? false);
    const copies: PageCopy[] = [];
    try {
      // Later announcements are for the next flush; earlier ones are covered by this one.
      const isUnflushed = this.#begin() || logCounts;
      this.#takePages(copies);
      if (isUnflushed || copies.length > 0) this.sync();
      if (copies.length > 0 || logCounts) {
        this.#writePages(copies);
        // This may reach the disk before the bitmap's pages: so the blocks of records are allocated whatever it says.
        if (logCounts && log) this.#parts.head?.announceLog(log.lastNumber);
        this.sync();
      }
    } catch (error) {
      for (const { page } of copies) Atomics.store(this.#pages, page, PageState.CHANGED);
      announce(this.#control);
      Atomics.store(this.#control, Control.UNFINISHED, 1);
      throw error;
    }
    // The head prepared for the first change would undo what the stamp says now.
    if (logCounts) Atomics.store(this.#control, Control.HEAD_DIRTY, 1);
    log?.done();
    if (announces) log?.announced();
    Atomics.store(this.#control, Control.UNFINISHED, 0);
  }

  /** Has anything changed since the last checkpoint began? Resets that, because this one covers it. */
  #begin(): boolean {
    const { log } = this.#parts;
    const take = (): boolean =>
      Atomics.exchange(this.#control, Control.UNFLUSHED, Unflushed.NOTHING) !== Unflushed.NOTHING;
    return log ? log.forget(take) : take();
  }

  /** Copies of the bitmap's pages that are not on disk, as they are now: the data of all their blocks is in the file. */
  #takePages(copies: PageCopy[]): void {
    if (!this.#pages.includes(PageState.CHANGED)) return;
    // After a failed checkpoint, the half not in use has the only copy of its entries: both are kept until one
    // succeeds.
    if (this.#parts.journal && Atomics.load(this.#control, Control.UNFINISHED) === 0) switchHalf(this.#control);
    // Only now, and from the first page on: all marks whose entries are in the half that was left are in these pages.
    for (let page = -1; ; ) {
      page = this.#pages.indexOf(PageState.CHANGED, page + 1);
      if (page < 0) return;
      const from = Math.max(0, page * MAP_PAGE_BYTES - BITMAP_OFFSET_BYTES);
      const to = Math.min(this.#parts.mapSizeBytes, (page + 1) * MAP_PAGE_BYTES - BITMAP_OFFSET_BYTES);
      const bytes = new Uint8Array(to - from);
      copies.push({ page, bytes });
      Atomics.exchange(this.#pages, page, PageState.STORED);
      bytes.set(this.#parts.map.bytes.subarray(from, to));
    }
  }

  #writePages(copies: readonly PageCopy[]): void {
    for (const { page, bytes } of copies) {
      this.#parts.cow.write(bytes, Math.max(BITMAP_OFFSET_BYTES, page * MAP_PAGE_BYTES));
    }
  }

  /** After a failed fsync the kernel may have dropped unwritten data: nothing can be promised any more. */
  sync(): void {
    try {
      this.#parts.cow.flush();
    } catch (error) {
      Atomics.compareExchange(this.#control, Control.FAILED, Failure.NONE, Failure.FSYNC);
      throw error;
    }
  }

  /** @throws CowError `io` after a commit or an fsync that failed */
  requireSound(): void {
    if (Atomics.load(this.#control, Control.FAILED) === Failure.NONE) return;
    throw new CowError(
      "io",
      "an earlier write or fsync failed: nothing can be made durable until the file is opened again",
      {
        file: this.#parts.cow.name,
      },
    );
  }
}
