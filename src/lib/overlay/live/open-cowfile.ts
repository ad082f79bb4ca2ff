/**
 * Owns opening a cowfile for writing, and closing it: judging its state, taking the marks of a crashed session of ours out
 * of its journal, building what the threads share, and at the end marking it clean. The order in between is
 * write-order.ts' business.
 */
import { randomBytes } from "node:crypto";
import type { BlockDevice } from "../../device/block-device.ts";
import { asItIs } from "../../device/borrowed-file.ts";
import type { Storage } from "../../device/storage.ts";
import { bootId } from "../../device/sys/boot.ts";
import { CowError } from "../../errors.ts";
import { encodeHead } from "../../formats/cowfile/head.ts";
import { type OpenedCowfile, openCowfile } from "../../formats/cowfile/layer.ts";
import { FLAG_DIRTY } from "../../formats/cowfile/layout.ts";
import { LOG_BYTES } from "../../formats/cowfile/live/flush-log.ts";
import { JOURNAL_BEGINNING, journalPath, logOffset } from "../../formats/cowfile/live/journal.ts";
import { replayLog } from "../../formats/cowfile/live/replay.ts";
import {
  clearStamps,
  FLAG_LIVE,
  freeStampOffset,
  NONCE_BYTES,
  readStamp,
  writeStamp,
} from "../../formats/cowfile/live/stamp.ts";
import { sweepUnmarked } from "../../formats/cowfile/live/sweep.ts";
import { BlockMap } from "./block-map.ts";
import { type CowfileTerms, makeOrder } from "./cowfile-terms.ts";
import { LogState } from "./flush-log-writer.ts";
import { countMarks, type FoundMarks, type FoundState, findMarks, refuseLost, refuseMiscount } from "./found-marks.ts";
import { writeNewJournal } from "./journal-writer.ts";
import { loadBitmap } from "./resident-layer.ts";
import { Control, MAP_PAGE_BYTES, newSharedState, PageState } from "./shared-state.ts";

const SECTOR_BYTES = 512;
const BITMAP_OFFSET_BYTES = 1024;

export type { FoundState } from "./found-marks.ts";

export interface OpenCowfileOptions {
  /** The machine's boot id; tests have their own. */
  readonly boot?: Uint8Array;
  /** Bytes to be left free on the cowfile's file system. */
  readonly reserveBytes?: number;
}

/** A cowfile that is open for writing, exclusively locked. */
export class WritableCowfile {
  readonly device: BlockDevice;
  readonly journal: BlockDevice;
  readonly terms: CowfileTerms;
  readonly found: FoundState;
  readonly opened: OpenedCowfile;
  readonly #storage: Storage;
  readonly #path: string;

  private constructor(parts: {
    storage: Storage;
    path: string;
    device: BlockDevice;
    journal: BlockDevice;
    terms: CowfileTerms;
    found: FoundState;
    opened: OpenedCowfile;
  }) {
    this.#storage = parts.storage;
    this.#path = parts.path;
    this.device = parts.device;
    this.journal = parts.journal;
    this.terms = parts.terms;
    this.found = parts.found;
    this.opened = parts.opened;
  }

  /**
   * Takes over a cowfile that is open and exclusively locked; it is closed with this object.
   *
   * @throws CowError `dirty` (neither clean nor left by a session of ours), `damaged`, `truncated`, `packed`, `bad-head`
   */
  static open(storage: Storage, path: string, device: BlockDevice, options: OpenCowfileOptions = {}): WritableCowfile {
    const opened = openCowfile(device);
    const boot = options.boot ?? bootId();
    const { found, stamp: oldStamp, runs, log } = findMarks(storage, path, opened, boot);
    const { head, headBlock, geometry } = opened;
    // After a kill all of it is in the page cache, and newer things, too.
    if (log && oldStamp && found === "power-cut") replayLog(device, log, oldStamp.logDone, geometry);
    const state = newSharedState(geometry.mapSizeBytes);
    const map = new BlockMap(state.bitmap, geometry.rdoBlocks);
    const pages = new Uint8Array(state.pages);
    loadBitmap(device, geometry.rdoBlocks, map.bytes, (from, to) => setPages(pages, from, to, PageState.STORED));
    for (const { first, count } of runs) {
      const end = Math.min(first + count, geometry.rdoBlocks);
      if (first >= end) continue;
      map.assign(first, end, true);
      setPages(pages, Math.floor(first / 8), Math.floor((end - 1) / 8) + 1, PageState.CHANGED);
    }
    refuseLost(device, opened, map);
    if (found === "clean") refuseMiscount(head, map, pages, geometry.mapSizeBytes, device.name);

    // What is in the flush log counts until a checkpoint: it goes on under the same name.
    const isSameSession = found === "recovered" || log !== undefined;
    const nonce = isSameSession && oldStamp ? oldStamp.nonce : new Uint8Array(randomBytes(NONCE_BYTES));
    const bare = Uint8Array.from(headBlock);
    clearStamps(bare);
    const stampOffset = freeStampOffset(head, bare);
    const logged = { usesLog: log !== undefined, logDone: log ? (oldStamp?.logDone ?? 0) : 0 };
    const stamp = stampOffset === undefined ? undefined : { nonce, boot, offset: stampOffset, ...logged };
    const dirty = bare.slice(0, SECTOR_BYTES);
    const flags = head.flags | FLAG_DIRTY;
    encodeHead({ ...head, flags: stamp ? flags | FLAG_LIVE : flags }, dirty);
    if (stamp) writeStamp(stamp, dirty);

    const control = new Int32Array(state.control);
    // Whatever was written before, by whomever, may still be in the page cache only, the dirty head of a killed session
    // included: the first change makes it durable, and so does the first flush.
    control[Control.HEAD_DIRTY] = 0;
    control[Control.UNFLUSHED] = 1;
    control[Control.SIZE_MIB] = Math.floor(device.sizeBytes / (1 << 20));
    control[Control.LOG_OFF] = 1;
    if (log) {
      control[Control.LOG_STATE] = LogState.READY;
      control[Control.LOG_NUMBER] = (log.records.at(-1)?.number ?? logged.logDone) | 0;
      control[Control.LOG_END] = log.endBytes;
    }
    // A head that nobody made durable may be all that makes an old journal needless.
    if (!isSameSession && storage.facts(journalPath(storage.realPath(path)))) device.flush();
    const { journal, slotsPerHalf } = makeJournal(storage, path, nonce, { runs, log }, control);
    // Asked of the journal, which lies on the same file system: the cowfile is not touched before somebody writes.
    try {
      control[Control.CAN_PUNCH] = journal.punchHole(roundUp(journal.sizeBytes), MAP_PAGE_BYTES) ? 1 : 0;
    } catch (error) {
      journal.close();
      throw error;
    }
    const terms: CowfileTerms = {
      name: device.name,
      path: storage.realPath(path),
      reserveBytes: options.reserveBytes ?? 0,
      sizeBytes: geometry.virtualSizeBytes,
      dataOffsetBytes: geometry.dataOffsetBytes,
      blockCount: geometry.rdoBlocks,
      mapSizeBytes: geometry.mapSizeBytes,
      state,
      dirtyHead: dirty,
      nonce,
      stamp,
      slotsPerHalf,
      logOffsetBytes: logOffset(slotsPerHalf),
      logBytes: LOG_BYTES,
    };
    return new WritableCowfile({ storage, path, device, journal, terms, found, opened });
  }

  /** Puts what is durable in the flush log alone in its place; without anything there it costs nothing. @throws CowError `io` */
  settle(): void {
    const order = makeOrder(this.terms, this.device, this.journal);
    if (order.isUnsettled) order.settle();
  }

  /**
   * Makes everything durable, marks the file clean and closes it. The other threads are done with it.
   *
   * @throws CowError where that fails: the file stays dirty then, and its journal stays beside it
   */
  close(): void {
    try {
      const order = makeOrder(this.terms, this.device, this.journal);
      order.settle();
      const control = new Int32Array(this.terms.state.control);
      if (control[Control.HEAD_DIRTY] === 1 || this.found !== "clean") this.#markClean();
    } catch (error) {
      this.abandon();
      throw error;
    }
    this.journal.close();
    try {
      this.#storage.remove(journalPath(this.#storage.realPath(this.#path)), { own: JOURNAL_BEGINNING });
    } finally {
      this.device.close();
    }
  }

  /** Closes without marking clean, as a crash would leave it. */
  abandon(): void {
    this.journal.close();
    this.device.close();
  }

  #markClean(): void {
    const { head, headBlock, geometry } = this.opened;
    const hasResidue = new Int32Array(this.terms.state.control)[Control.RESIDUE] === 1;
    if (this.found !== "clean" || hasResidue) {
      // Other threads have made the file longer.
      sweepUnmarked(asItIs(this.device), geometry);
      this.device.flush();
    }
    const map = new BlockMap(this.terms.state.bitmap, this.terms.blockCount);
    const used = countMarks(map, new Uint8Array(this.terms.state.pages), this.terms.mapSizeBytes);
    const sector = Uint8Array.from(headBlock).slice(0, SECTOR_BYTES);
    const old = readStamp(head, headBlock);
    clearStamps(sector);
    // Without a stamp of ours the bit is not ours, and stays.
    const flags = head.flags & ~FLAG_DIRTY & ~(old ? FLAG_LIVE : 0);
    encodeHead({ ...head, flags, used: BigInt(used) }, sector);
    this.device.write(sector, 0);
    this.device.flush();
  }
}

function makeJournal(
  storage: Storage,
  path: string,
  nonce: Uint8Array,
  { runs, log }: Pick<FoundMarks, "runs" | "log">,
  control: Int32Array,
): { readonly journal: BlockDevice; readonly slotsPerHalf: number } {
  const file = journalPath(storage.realPath(path));
  try {
    const pending = storage.create(file, { own: JOURNAL_BEGINNING });
    try {
      const slotsPerHalf = writeNewJournal(pending.device, nonce, runs, control, log?.records);
      // The old one, if any, says nothing that the new one doesn't.
      pending.commit({ replace: true });
      return { journal: storage.open(file, { writable: true, lock: "none", own: true }), slotsPerHalf };
    } finally {
      pending.abandon();
    }
  } catch (error) {
    if (!(error instanceof CowError)) throw error;
    throw new CowError(error.code, error.message, {
      file,
      details: error.details,
      hints: ["the live journal lies beside the cowfile while it is being written", ...error.hints],
      cause: error,
    });
  }
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / MAP_PAGE_BYTES) * MAP_PAGE_BYTES;
}

function setPages(pages: Uint8Array, fromByte: number, toByte: number, state: number): void {
  const first = Math.floor((BITMAP_OFFSET_BYTES + fromByte) / MAP_PAGE_BYTES);
  const last = Math.floor((BITMAP_OFFSET_BYTES + toByte - 1) / MAP_PAGE_BYTES);
  pages.fill(state, first, last + 1);
}
