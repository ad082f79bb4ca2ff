/**
 * Owns what clients do to a served image: random requests by several threads, replied to when they are committed, as the
 * server does it; and the comparison of what they read with the oracle.
 */
import { CowError } from "../../src/lib/index.ts";
import type { LiveImage } from "../../src/lib/stack/live/image.ts";
import { type Random, SECTOR_BYTES } from "./disk.ts";
import type { Faults } from "./faults.ts";
import type { Change, Oracle } from "./oracle.ts";
import { type Locks, pendingBlocks, type Thread } from "./threads.ts";
import { Lost, Violation } from "./violation.ts";
import { pick, readWindows, sign, whole } from "./world.ts";

const BLOCK_BYTES = 1024;
const REGION_BYTES = 256 * BLOCK_BYTES;

export interface RequestsOptions {
  readonly next: Random;
  readonly oracle: Oracle;
  readonly locks: Locks;
  readonly images: readonly LiveImage[];
  /** Numbers requests through all sessions, as their content tells them apart by it. */
  readonly takeNumber: () => number;
  readonly trace: (line: string) => void;
  readonly faults: Faults;
  /** A thread would have to wait for one that is stopped: throws. */
  readonly stuck: () => never;
  /** Like a database: small writes of whole blocks, each soon flushed, so that the flush log is what matters. */
  readonly isDatabase: boolean;
  /** The threads of all images that are in the middle of something, where there are several. */
  readonly running?: Set<Thread>;
  /** How the threads come to their image, where its parts may be replaced. */
  readonly door?: Door;
}

/** A thread is inside from its first request on until it has replied to all. */
export interface Door {
  /** Would it have to wait outside? */
  readonly isShut: boolean;
  enter(thread: Thread): void;
  leave(thread: Thread): void;
}

/** How often others run without being asked whether they would have to wait. */
const BOLD = 0.02;

const KINDS = ["write", "write", "write", "write", "zeros", "zero", "punch", "trim"] as const;
type Kind = (typeof KINDS)[number];

interface Range {
  readonly from: number;
  readonly length: number;
}

export class Requests {
  readonly threads: readonly Thread[];
  readonly #options: RequestsOptions;
  /** Threads that are in the middle of something. */
  readonly #running: Set<Thread>;
  readonly #inside = new Set<Thread>();

  /** How often others ran while a thread was stopped. */
  #othersCame = 0;
  #last: Range = { from: -1, length: 0 };

  constructor(options: RequestsOptions) {
    this.#options = options;
    this.#running = options.running ?? new Set();
    this.threads = options.images.map((image, i) => ({ name: `t${i + 1}`, image, batch: [], owesReply: false }));
  }

  /** The thread that is at work: the others in the middle of something are stopped. */
  get current(): Thread | undefined {
    return [...this.#running].at(-1);
  }

  /** One thread does something. */
  step(): void {
    const { next } = this.#options;
    const thread = pick(next, this.threads);
    if (!this.#mayRun(thread)) return;
    const chance = next();
    const { isDatabase, door } = this.#options;
    // Batches end soon.
    if (door?.isShut && next() < 0.5) this.reply(thread);
    else if (isDatabase && chance < 0.2) this.flush(thread);
    else if (chance < 0.62) this.#change(thread, this.#chooseRange(false), false);
    else if (chance < 0.66) this.#change(thread, this.#chooseRange(false), true);
    else if (chance < 0.88) this.reply(thread);
    else if (chance < 0.97) this.flush(thread);
    else this.compare(thread);
  }

  /** Is it inside, or could it enter at once? */
  #mayRun(thread: Thread): boolean {
    return this.#inside.has(thread) || !this.#options.door?.isShut;
  }

  /**
   * Others run while a thread is stopped: mostly one request, now and then many.
   *
   * @param areMany many, with flushes that may come to a half of the journal which the stopped thread still writes into
   * @param isMain the main thread is stopped, perhaps no other one
   */
  interrupt(areMany = false, isMain = false): void {
    const { next } = this.#options;
    // A third thread while two are stopped is rare, but there are such races.
    if ((this.#running.size === 0 && !isMain) || (this.#running.size > 1 && next() < 0.7)) return;
    const isBold = next() < BOLD;
    const again = areMany || next() < 0.1 ? 0.85 : 0.2;
    this.#othersCame++;
    do this.#runAnother(isBold, areMany);
    while (next() < again);
  }

  /** @param isBold tries what may have to wait for a thread that is stopped: the process dies of it, see `stuck` */
  #runAnother(isBold: boolean, areMany: boolean): void {
    const { next, locks } = this.#options;
    const idle = this.threads.filter((thread) => !this.#running.has(thread) && (isBold || this.#mayRun(thread)));
    if (idle.length === 0) return;
    const thread = pick(next, idle);
    const pending = pendingBlocks(thread);
    const chance = next();
    if (chance < 0.15) {
      if (isBold || locks.canCommit(pending)) this.reply(thread);
    } else if (chance < 0.5) {
      if (isBold || locks.canFlush(pending, !areMany)) this.flush(thread);
    } else for (let tries = 0; tries < 4; tries++) if (this.#squeezeIn(thread, pending, isBold)) return;
  }

  /** A change by another thread, if nothing is in its way; perhaps it is replied to at once. */
  #squeezeIn(thread: Thread, pending: number, isBold: boolean): boolean {
    const { next, locks, oracle } = this.#options;
    const range = this.#chooseRange(true);
    const blocks = Math.ceil(range.length / BLOCK_BYTES) + 1;
    if (oracle.isBusy(range.from, range.length)) return false;
    if (!isBold && !locks.canChange()) return false;
    if (!isBold && !(locks.areRegionsFree(range.from, range.length) && locks.canCommit(pending + blocks))) return false;
    this.#change(thread, range, false);
    if (next() < 0.6 && (isBold || locks.canCommit(pendingBlocks(thread)))) this.reply(thread);
    return true;
  }

  /** A thread that may hold locks, and could let go of them. */
  get holder(): Thread | undefined {
    return this.threads.find((thread) => !this.#running.has(thread) && (thread.owesReply || thread.batch.length > 0));
  }

  /** Lets go of locks that another thread waits for. */
  makeWay(): void {
    const { holder } = this;
    if (holder) this.reply(holder);
    else if (this.#running.size > 1) this.#options.stuck();
    else throw new Violation("a thread waits for a lock that nobody will let go of");
  }

  #run(thread: Thread, what: string, work: () => void): boolean {
    this.#options.trace(`${thread.name} ${what}`);
    this.#running.add(thread);
    const { faults, door } = this.#options;
    const before = faults.count;
    try {
      if (door && !this.#inside.has(thread)) {
        door.enter(thread);
        this.#inside.add(thread);
      }
      work();
      return true;
    } catch (error) {
      // An error needs a reason: a disk that failed meanwhile, or that is not to be trusted any more.
      if (!(error instanceof CowError) || (faults.count === before && !faults.isSick)) throw error;
      this.#options.trace(`${thread.name} failed: ${error.code} ${error.message}`);
      // The server then ends without another reply, as a crash would: see Transmission.
      if (thread.image.failed) throw new Lost("a commit failed");
      return false;
    } finally {
      this.#running.delete(thread);
    }
  }

  #chooseRange(isSmall: boolean): Range {
    const { next, oracle } = this.#options;
    const window = pick(next, oracle.windows);
    const start = window.fromSector * SECTOR_BYTES;
    const size = window.count * SECTOR_BYTES;
    const { isDatabase } = this.#options;
    const unit = isDatabase ? BLOCK_BYTES : pick(next, [1, SECTOR_BYTES, BLOCK_BYTES, BLOCK_BYTES, 4096]);
    const most = isSmall || isDatabase ? 8 * BLOCK_BYTES : next() < 0.1 ? size : 48 * BLOCK_BYTES;
    const length = Math.min(
      size,
      Math.ceil(whole(next, 1, Math.min(size, next() < 0.5 ? 2048 : most) + 1) / unit) * unit,
    );
    let from = Math.floor((next() * (size - length + 1)) / unit) * unit;
    if (next() < 0.15) from = Math.max(0, Math.min(size - length, REGION_BYTES - whole(next, 0, 4) * 512));
    if (next() < 0.1) from = size - length;
    const range = { from: start + from, length };
    // Where something was done before there is more to get wrong.
    if (next() < 0.3 && this.#last.length > 0 && !isSmall) return this.#last;
    this.#last = range;
    return range;
  }

  #content(kind: Kind, { from, length }: Range, number: number): Uint8Array {
    const bytes = new Uint8Array(length);
    if (kind !== "write") return bytes;
    sign(bytes, number, from);
    // Some blocks of it are zeros, as a file system writes them.
    if (this.#options.next() < 0.2) bytes.fill(0, whole(this.#options.next, 0, length), length);
    return bytes;
  }

  #change(thread: Thread, wanted: Range, isFua: boolean): void {
    const { next, oracle, takeNumber, isDatabase } = this.#options;
    const number = takeNumber();
    const kinds = isDatabase ? (["write"] as const) : KINDS;
    const kind = pick(next, kinds);
    let range = wanted;
    if (kind === "trim") {
      const from = Math.ceil(wanted.from / BLOCK_BYTES) * BLOCK_BYTES;
      const to = Math.floor((wanted.from + wanted.length) / BLOCK_BYTES) * BLOCK_BYTES;
      if (to <= from || !thread.image.zeroesFast) return;
      range = { from, length: to - from };
    }
    const { from, length } = range;
    const bytes = this.#content(kind, range, number);
    const what = `#${number} ${kind}${isFua ? " FUA" : ""} ${from}+${length}`;
    const change = oracle.begin(what, from, bytes);
    const othersBefore = this.#othersCame;
    const isDone = this.#run(thread, what, () => {
      if (kind === "write" || kind === "zeros") thread.image.write(bytes, from);
      else if (kind === "trim") thread.image.trim(wanted.from, wanted.length);
      else thread.image.zero(from, length, { mayPunch: kind === "punch" });
    });
    if (!isDone) {
      this.#hasFailed(thread, change);
      return;
    }
    oracle.done(change);
    thread.batch.push(change);
    const read = Buffer.alloc(length);
    thread.image.read(read, from);
    if (!read.equals(bytes)) throw new Violation(`${what} is not read back by its own thread`);
    // Whether it is covered after others came in between shows after a flush at once.
    if (isFua || (this.#othersCame > othersBefore && next() < 0.6)) this.#flushIfFree(thread);
  }

  #flushIfFree(thread: Thread): void {
    if (this.#running.size === 0 || this.#options.locks.canFlush(pendingBlocks(thread))) this.flush(thread);
  }

  #hasFailed(thread: Thread, change: Change): void {
    thread.owesReply = true;
    this.#options.oracle.failed(change);
    this.#reread(thread, `after ${change.what} failed`);
  }

  /** After a failure: the marks of more than the failed request may have been taken back. */
  #reread(thread: Thread, when: string): void {
    const { oracle } = this.#options;
    const bytes = readWindows(thread.image, oracle.windows);
    const wrong = oracle.reread(bytes);
    if (wrong !== undefined) throw new Violation(`${when}: sector ${wrong} ${oracle.explain(wrong, bytes)}`);
  }

  /** Sends the replies of a thread. A commit that fails ends the connection: nobody is told anything then. */
  reply(thread: Thread): void {
    const { batch } = thread;
    if (this.#options.door && !this.#inside.has(thread)) return;
    const isDone = this.#run(thread, `replies to ${batch.length}`, () => {
      thread.image.commit();
      this.#options.door?.leave(thread);
      this.#inside.delete(thread);
    });
    thread.owesReply = false;
    thread.batch = thread.batch.filter((change) => !batch.includes(change));
    if (thread.image.failed) throw new Lost("a commit failed");
    if (isDone) for (const change of batch) this.#options.oracle.replied(change);
    else this.#reread(thread, "after a commit failed");
  }

  flush(thread: Thread): boolean {
    const { oracle } = this.#options;
    const since = oracle.flushBegins();
    const own = [...thread.batch];
    const { isBroken } = this.#options.faults;
    const isDone = this.#run(thread, "flushes", () => thread.image.flush());
    if (thread.image.failed) throw new Lost("a commit failed");
    if (isDone && isBroken) throw new Violation("a flush is said to be done after an fsync had failed");
    if (isDone) {
      oracle.flushed(since, own);
      this.#options.trace(`${thread.name} flushed`);
    } else this.#reread(thread, "after a flush failed");
    return isDone;
  }

  compare(thread: Thread): void {
    const { oracle } = this.#options;
    const bytes = readWindows(thread.image, oracle.windows);
    if (!bytes.equals(oracle.current)) throw new Violation(`${thread.name} reads something else than was written`);
  }
}
