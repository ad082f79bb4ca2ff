/**
 * Owns opening a cowfile for writing, and closing it: judging its state, reading the allocations of a crashed session
 * of ours from its journal, building the threads' shared state, and at the end marking it clean. write-order.ts owns
 * the order in between.
 */
import type { OperationContext } from "../../context.ts";
import type { BlockDevice } from "../../device/block-device.ts";
import { asLent } from "../../device/borrowed-file.ts";
import type { Storage } from "../../device/storage.ts";
import { bootId } from "../../device/sys/boot.ts";
import { type CowHead, decodeHead, encodeHead, storedFingerprint } from "../../formats/cowfile/head.ts";
import { type OpenedCowfile, openCowfile } from "../../formats/cowfile/layer.ts";
import { FLAG_DIRTY } from "../../formats/cowfile/layout.ts";
import { LOG_BYTES } from "../../formats/cowfile/live/flush-log.ts";
import { type BlockRun, journalPath, logOffset, writeSettled } from "../../formats/cowfile/live/journal.ts";
import { replayLog } from "../../formats/cowfile/live/replay.ts";
import { clearStamps, FLAG_LIVE, readStamp } from "../../formats/cowfile/live/stamp.ts";
import { sweepUnmarked, unmarkedRuns } from "../../formats/cowfile/live/sweep.ts";
import { isTooMuchToLookAt, type MarksAt } from "../../formats/cowfile/unmarked-data.ts";
import { BlockMap } from "./block-map.ts";
import { type CowfileConfig, makeOrder, type SharedCowfile, usageOf } from "./cowfile-config.ts";
import type { WrittenFile } from "./file-guard.ts";
import { LogState } from "./flush-log-writer.ts";
import { countMarks, type FoundState, refuseLost, refuseMiscount, refuseUnknown } from "./found-state.ts";
import { HeadWriter, writeLong } from "./head-writer.ts";
import { JournalFile } from "./journal-file.ts";
import { makeJournal, makeJournalLazily } from "./new-journal.ts";
import { Control, Failure, MAP_PAGE_BYTES, Unflushed } from "./shared-state.ts";
import { SpaceUsage } from "./space-usage.ts";
import { foundSession, loadMarks, nextHead, setAside, tellOfUnmarked } from "./take-up.ts";
import type { Top } from "./top.ts";
import type { WriteOrder } from "./write-order.ts";

const SECTOR_BYTES = 512;

export interface OpenCowfileOptions {
  /** The machine's boot id; tests have their own. */
  readonly boot?: Uint8Array;
  /** Bytes to keep free on the cowfile's file system. */
  readonly reserveBytes?: number;
  readonly onNotice?: OperationContext["onNotice"];
}

const FOUND: Record<"ended" | "killed" | "restarted", FoundState> = {
  ended: "clean",
  killed: "recovered",
  restarted: "power-cut",
};

/** What only the end of a session needs. */
interface Session {
  readonly device: BlockDevice;
  readonly opened: OpenedCowfile;
  readonly journalFile: JournalFile;
  /** Unallocated blocks that held data before this session. */
  readonly kept: readonly BlockRun[];
}

/** A cowfile that is open for writing, exclusively locked. */
export class WritableCowfile implements Top {
  readonly shared: SharedCowfile & { readonly journal: BlockDevice };
  readonly found: FoundState;
  readonly usage: SpaceUsage;
  readonly #session: Session;
  #head: CowHead;

  private constructor(shared: WritableCowfile["shared"], found: FoundState, session: Session) {
    this.shared = shared;
    this.usage = usageOf(shared.config);
    this.found = found;
    this.#session = session;
    this.#head = session.opened.head;
  }

  get device(): BlockDevice {
    return this.shared.cow;
  }

  get sizeBytes(): number {
    return this.shared.config.sizeBytes;
  }

  get written(): readonly WrittenFile[] {
    const { cow, journal, config } = this.shared;
    return [
      { device: cow, path: config.path, role: "layer" },
      { device: journal, path: journalPath(config.path), role: "journal" },
    ];
  }

  writable(): WriteOrder {
    return makeOrder(this.shared);
  }

  /**
   * Takes over a cowfile that is open and exclusively locked; it is closed with this object.
   *
   * @throws CowError `dirty` (neither clean nor left by a session of ours), `damaged`, `truncated`, `packed`, `bad-head`
   */
  static open(storage: Storage, path: string, device: BlockDevice, options: OpenCowfileOptions = {}): WritableCowfile {
    const journalFile = new JournalFile(storage, path);
    try {
      return WritableCowfile.#open(storage, path, device, journalFile, options);
    } finally {
      journalFile.close();
    }
  }

  static #open(
    storage: Storage,
    path: string,
    device: BlockDevice,
    journalFile: JournalFile,
    options: OpenCowfileOptions,
  ): WritableCowfile {
    const opened = openCowfile(device);
    const boot = options.boot ?? bootId();
    // Always searched: a server that still writes a journal of that name must not find it gone.
    const session = foundSession(opened, journalFile, boot);
    refuseUnknown(session, path, journalFile.path);
    if (session.kind === "other-program" || session.kind === "unknown") throw new Error("was to be refused");
    const found = FOUND[session.kind];
    const old = session.kind === "ended" ? undefined : session;
    const { head, geometry } = opened;
    const log = old?.log;
    // After a kill everything is in the page cache, and newer data, too.
    if (log && old.kind === "restarted") replayLog(device, log, old.stamp.logDone, geometry);
    const runs = old?.runs ?? [];
    const { state, map, pages } = loadMarks(device, opened, runs);
    const marksAt: MarksAt = () => ({ bytes: map.bytes, firstBlock: 0 });
    const used = countMarks(map, pages, geometry.mapSizeBytes);
    refuseLost(device, opened, map, used);
    if (found === "clean") refuseMiscount(head, used, device.name);
    const goesOn =
      session.kind === "restarted" ? setAside(storage, path, device, opened, session, marksAt, options.onNotice) : old;
    const kept = old ? old.kept : unmarkedRuns(device, geometry, marksAt);
    if (!old && !isTooMuchToLookAt(device, geometry)) tellOfUnmarked(kept, path, options.onNotice);

    const isSameSession = old !== undefined && (found === "recovered" || log !== undefined);
    const { nonce, generation, stamp, dirty } = nextHead(opened, isSameSession ? goesOn : undefined, boot);
    const { control } = state;
    // Earlier writes of any process may still be in the page cache only, including the dirty head of a killed session:
    // the first change makes them durable, and so does the first flush.
    control[Control.HEAD_DIRTY] = 0;
    control[Control.UNFLUSHED] = Unflushed.OTHER;
    control[Control.SIZE_MIB] = Math.floor(device.sizeBytes / (1 << 20));
    writeLong(control, Control.GENERATION, generation);
    if (log && old) {
      control[Control.USES_LOG] = 1;
      writeLong(control, Control.LOG_DONE, old.stamp.logDone);
      control[Control.LOG_STATE] = LogState.READY;
      writeLong(control, Control.LOG_NUMBER, log.records.at(-1)?.number ?? old.stamp.logDone);
      control[Control.LOG_END] = log.endBytes;
    }
    // Without a durable head, the old journal may still be needed.
    if (!isSameSession && journalFile.find()) device.flush();
    journalFile.setAsideForeign(old !== undefined, options.onNotice);
    const isNeeded = old !== undefined || kept.length > 0;
    const begin = { nonce, generation, kept };
    const { journal, slotsPerHalf } = isNeeded
      ? makeJournal(journalFile, begin, { runs, log }, control)
      : makeJournalLazily(journalFile, begin, control);
    // Tried on the journal, which is on the same file system: the cowfile is not touched before the first write.
    try {
      control[Control.CAN_PUNCH] = journal.punchHole(roundUp(journal.sizeBytes), MAP_PAGE_BYTES) ? 1 : 0;
    } catch (error) {
      journal.close();
      throw error;
    }
    const config: CowfileConfig = {
      path: storage.realPath(path),
      reserveBytes: options.reserveBytes ?? 0,
      sizeBytes: geometry.virtualSizeBytes,
      dataOffsetBytes: geometry.dataOffsetBytes,
      blockCount: geometry.rdoBlocks,
      mapSizeBytes: geometry.mapSizeBytes,
      state,
      usage: SpaceUsage.newMemory(used),
      dirtyHead: inSharedMemory(dirty),
      nonce,
      stamp,
      slotsPerHalf,
      logOffsetBytes: logOffset(slotsPerHalf),
      logBytes: LOG_BYTES,
    };
    const shared = { cow: asLent(device), journal, config };
    return new WritableCowfile(shared, found, { device, opened, journalFile, kept });
  }

  /**
   * Writes data that is durable only in the flush log to its place; costs nothing if there is none.
   * @throws CowError `io`
   */
  checkpoint(): void {
    const { control } = this.shared.config.state;
    // For most of a thousand exports nothing else is done every few seconds.
    if ((control[Control.LOG_END] ?? 0) > 0) this.writable().checkpoint();
  }

  /**
   * Makes everything durable, marks the file clean and closes it. The other threads are done with it.
   *
   * @throws CowError if that fails: the file stays dirty then, and its journal stays beside it
   */
  close(): void {
    if (!this.#isChanged) {
      this.abandon();
      this.#session.journalFile.remove({ mayReturn: true });
      return;
    }
    try {
      this.settle();
      this.#endJournal();
    } catch (error) {
      this.abandon();
      throw error;
    }
    this.shared.journal.close();
    try {
      this.#session.journalFile.remove();
    } finally {
      this.#session.device.close();
    }
  }

  async flushAhead(limitMs?: number): Promise<void> {
    const flushed = this.#session.device.file?.flushAside().catch(() => {
      // The kernel tells it once only.
      Atomics.compareExchange(this.shared.config.state.control, Control.FAILED, Failure.NONE, Failure.FSYNC);
    });
    const limit = limitMs === undefined ? [] : [new Promise((resolve) => setTimeout(resolve, limitMs))];
    await Promise.race([flushed, ...limit]);
  }

  settle(): void {
    this.writable().checkpoint();
  }

  makeReady(): void {
    this.writable().makeReady();
  }

  nameBase(fingerprint: number): void {
    const { opened } = this.#session;
    this.#head = { ...opened.head, fingerprint: storedFingerprint(opened.head.abi, fingerprint) };
    const { cow, config } = this.shared;
    const { dirtyHead, stamp, state } = config;
    if (!dirtyHead) return;
    new HeadWriter(cow, dirtyHead, stamp, state.control).change((sector) => {
      const { flags } = decodeHead(sector, config.path);
      encodeHead({ ...this.#head, flags }, sector);
    });
  }

  get isSound(): boolean {
    return this.shared.config.state.control[Control.FAILED] === Failure.NONE;
  }

  finish(): void {
    const { journalFile, device } = this.#session;
    if (this.#isChanged) this.#endJournal();
    // It stays open: a thread may be taking the parts with it at this moment.
    journalFile.remove(this.#isChanged ? {} : { mayReturn: true });
    device.file?.shareLock();
  }

  /** Otherwise nothing was changed, and clients' flushes are answered: there is nothing to make durable. */
  get #isChanged(): boolean {
    return this.shared.config.state.control[Control.HEAD_DIRTY] !== 0 || this.found !== "clean";
  }

  #endJournal(): void {
    const { journal, config } = this.shared;
    // If killed between the clean head and its removal, it would seem to belong to another cowfile.
    writeSettled(journal, config.nonce);
    this.#markClean();
  }

  /** Closes without marking clean, as a crash would leave it. */
  abandon(): void {
    this.shared.journal.close();
    this.#session.device.close();
  }

  #markClean(): void {
    const { device, opened, kept } = this.#session;
    const { headBlock, geometry } = opened;
    const head = this.#head;
    const { state, blockCount, mapSizeBytes } = this.shared.config;
    const hasResidue = state.control[Control.RESIDUE] === 1;
    if (this.found !== "clean" || hasResidue) {
      sweepUnmarked(device, geometry, kept);
      device.flush();
    }
    const used = countMarks(new BlockMap(state.bitmap, blockCount), state.pages, mapSizeBytes);
    const sector = Uint8Array.from(headBlock).slice(0, SECTOR_BYTES);
    const old = readStamp(head, headBlock);
    clearStamps(sector);
    // Without our stamp the bit is not ours, and stays.
    const flags = head.flags & ~FLAG_DIRTY & ~(old ? FLAG_LIVE : 0);
    encodeHead({ ...head, flags, used: BigInt(used) }, sector);
    device.write(sector, 0);
    device.flush();
  }
}

function inSharedMemory(bytes: Uint8Array): Uint8Array {
  const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
  shared.set(bytes);
  return shared;
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / MAP_PAGE_BYTES) * MAP_PAGE_BYTES;
}
