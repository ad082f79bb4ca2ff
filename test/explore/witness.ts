/**
 * Owns the disk of a life and the look at it: every change goes by here, is recorded, and before it is made the states are
 * judged that a crash at this moment might leave. Here the process dies when its time has come.
 */

import { FLAG_LIVE } from "../../src/lib/formats/cowfile/live/stamp.ts";
import type { StorageChange } from "../../src/lib/index.ts";
import type { Step } from "../support/storage/stepped-storage.ts";
import { Disk, PAGE_BYTES, type Random } from "./disk.ts";
import { RawCowfile } from "./foreign.ts";
import type { Fate, Oracle } from "./oracle.ts";
import { type Case, judgeForOriginals, judgeIfClean, judgeState } from "./states.ts";
import { Died, Violation } from "./violation.ts";
import { COW, JOURNAL, type World } from "./world.ts";

/** Power cuts tried at each change. */
const CUTS = 2;
/** Of how many states it is asked what the original tools make of them. */
const SHARE_FOR_ORIGINALS = 0.1;
const ANOTHER_BOOT = new Uint8Array(16).fill(0xff);

export class Witness {
  readonly world: World;
  readonly oracle: Oracle;
  readonly #look: Random;
  readonly #trace: (line: string) => void;
  disk: Disk;
  /** States that were judged. */
  states = 0;
  changes = 0;
  /** The number of the change that is not made any more. */
  diesAt = Number.POSITIVE_INFINITY;
  isDead = false;
  /** The driver left the cowfile dirty, and on disk it still is. */
  needsSearch = false;
  /** Blocks that others have left with data, but without a mark. */
  strays: ReadonlySet<number> = new Set();
  /** Behind that byte nothing is to be written into the journal. */
  journalEnd = Number.POSITIVE_INFINITY;
  boot: Uint8Array;
  #bootCount = 0;
  /** The first of all: what comes after it may be its consequence, and whoever it was thrown at may have caught it. */
  violation: Violation | undefined;

  /** @param look decides what is looked at, so that the life is the same however closely it is looked at */
  constructor(world: World, oracle: Oracle, look: Random, trace: (line: string) => void) {
    this.world = world;
    this.oracle = oracle;
    this.#look = look;
    this.#trace = trace;
    this.disk = Disk.of(world.files);
    this.boot = this.#newBoot();
  }

  #newBoot(): Uint8Array {
    this.#bootCount++;
    return new Uint8Array(16).fill(this.#bootCount);
  }

  /** The storage of a new process, which dies before the change of that number. */
  mount(diesAt: number) {
    this.diesAt = diesAt;
    this.isDead = false;
    return this.disk.mount((change) => this.#onChange(change));
  }

  /** The power goes, and comes again. */
  powerCut(next: Random): void {
    this.disk = Disk.of(this.disk.powerCut(next, this.world.partOf));
    this.boot = this.#newBoot();
  }

  /** What the next process will see is settled now, and must stay so through whatever becomes of its opening. */
  settle(fate: Fate): void {
    this.oracle.settle(judgeState(this.disk.killed(), this.#case(fate)), fate);
  }

  #onChange(change: StorageChange): void {
    if (this.isDead) throw new Died("dead already");
    this.look(change);
    if (this.changes >= this.diesAt || this.violation) this.die();
    this.changes++;
    this.#trace(`    ${describe(change)}`);
  }

  /** The process dies here. A thread that would have to wait for one that is stopped can't go on, but it can die. */
  die(): never {
    this.isDead = true;
    throw new Died("dies now");
  }

  /** Judges what a crash at this very moment might leave. @param coming what is just about to be done */
  look(coming?: StorageChange): void {
    if (this.violation) return;
    if (this.needsSearch) this.needsSearch = this.#isLeftByDriver();
    try {
      if (coming?.kind === "device" && coming.change.kind === "write" && coming.change.bytes.length > PAGE_BYTES)
        this.#judge("kill", this.disk.killedDuring(coming, this.#look), this.boot);
      this.#judge("kill", this.disk.killed(), this.boot);
      const cuts = this.disk.pendingCount === 0 ? 1 : CUTS;
      for (let i = 0; i < cuts; i++) {
        this.#judge("power-cut", this.disk.powerCut(this.#look, this.world.partOf), ANOTHER_BOOT);
      }
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.violation = error;
    }
  }

  #isLeftByDriver(): boolean {
    const content = this.disk.durable(COW);
    if (!content) return false;
    const { isDirty, flags } = new RawCowfile(content);
    return isDirty && (flags & FLAG_LIVE) === 0;
  }

  #judge(fate: Fate, files: ReturnType<Disk["killed"]>, boot: Uint8Array): void {
    this.states++;
    judgeState(files, this.#case(fate, boot));
    judgeIfClean(files, this.#case(fate, boot));
    if (this.#look() < SHARE_FOR_ORIGINALS) judgeForOriginals(files, this.#case(fate, boot));
  }

  #case(fate: Fate, boot = this.boot): Case {
    return { fate, boot, world: this.world, oracle: this.oracle, needsSearch: this.needsSearch, strays: this.strays };
  }

  /** While a file is clean, here or on disk, nothing of it may change but its head. */
  requireDirty({ path, kind, offset }: Step): void {
    const content = this.disk.current(COW);
    if (path !== COW || !content || this.isDead || (kind !== "write" && kind !== "punch")) return;
    if (offset < 1024 || (kind === "punch" && offset >= content.sizeBytes)) return;
    if (!new RawCowfile(content).isDirty) throw this.violate("the file is changed while its head is clean");
    if (!new RawCowfile(this.disk.durable(COW) ?? content).isDirty)
      throw this.violate("the file is changed while its head on disk is clean");
  }

  requireInJournal({ path, kind, offset, length }: Step): void {
    if (path === JOURNAL && kind === "write" && offset + length > this.journalEnd)
      throw this.violate(`the journal is written up to byte ${offset + length}, but ends at ${this.journalEnd}`);
  }

  violate(message: string): Violation {
    this.violation ??= new Violation(message);
    return this.violation;
  }

  /** Has a file its space already, where it is to be written? */
  isAllocated({ path, offset, length }: Step): boolean {
    const content = this.disk.current(path);
    for (let at = offset; content && at < offset + length; at = (Math.floor(at / PAGE_BYTES) + 1) * PAGE_BYTES) {
      if (!content.pages.has(Math.floor(at / PAGE_BYTES))) return false;
    }
    return content !== undefined;
  }
}

export function describe(change: StorageChange): string {
  if (change.kind === "name")
    return `name ${change.path} ${change.file === undefined ? "gone" : `is file ${change.file}`}`;
  if (change.kind === "sync-names") return "names durable";
  const { change: done, file } = change;
  if (done.kind === "write") return `file ${file}: write ${done.offset}+${done.bytes.length}`;
  if (done.kind === "punch") return `file ${file}: punch ${done.offset}+${done.length}`;
  return `file ${file}: ${done.kind}`;
}
