/**
 * Owns one life of a cowfile: sessions of a server with random requests, repairs, visits of the original tools; each ended
 * in order, by a kill or by a power cut at any change, some on a disk that fails. Everything follows from the seed.
 */

import { repairCowfile } from "../../src/lib/formats/cowfile/check.ts";
import { LOG_BYTES } from "../../src/lib/formats/cowfile/live/flush-log.ts";
import { CowError, SparseBytes } from "../../src/lib/index.ts";
import { asideFile } from "../../src/lib/stack/live/aside-file.ts";
import type { CowfileConfig } from "../../src/lib/stack/live/cowfile-config.ts";
import { WritableCowfile } from "../../src/lib/stack/live/open-cowfile.ts";
import { ServedStack } from "../../src/lib/stack/live/served-stack.ts";
import { Control } from "../../src/lib/stack/live/shared-state.ts";
import { random } from "../support/random.ts";
import { type Step, type StepKind, SteppedStorage, type Stepper } from "../support/storage/stepped-storage.ts";
import { byOriginals } from "./between.ts";
import { Disk, type Random } from "./disk.ts";
import { Faults } from "./faults.ts";
import { RawCowfile } from "./foreign.ts";
import { Oracle } from "./oracle.ts";
import { Requests } from "./requests.ts";
import { watchMemory } from "./shared-memory.ts";
import { Locks } from "./threads.ts";
import { Lost, Violation } from "./violation.ts";
import { Witness } from "./witness.ts";
import { COW, JOURNAL, makeWorld, pick, readWindows, type World, whole } from "./world.ts";

export interface LifeOptions {
  readonly seed: number;
  readonly onTrace?: (line: string) => void;
}

/** How a process ended: in order, or as what came instead. */
type Ending = "close" | "kill" | "power-cut";

/** Entries that a half of the journal takes: many, or so few that halves are used again all the time. */
const SLOTS = [1 << 20, 40, 12, 5] as const;

/**
 * Bytes of the flush log: many records, or so few that checkpoints come all the time; none, as on a full disk. Never more than
 * there is: behind it is the list of blocks that a session leaves alone.
 */
const LOGS = [LOG_BYTES, LOG_BYTES, 16 << 10, 4 << 10, 0] as const;

/** Of a session that is to die, which may never come: on a disk that takes nothing there are no changes any more. */
const STEPS_AT_MOST = 400;

/** Where others run, and the disk may fail. */
const CHANGES: ReadonlySet<StepKind> = new Set(["write", "punch", "flush", "resize"]);

const openWritable = WritableCowfile.open.bind(WritableCowfile);

export class Life {
  readonly witness: Witness;
  readonly #next: Random;
  readonly #rare: Random;
  readonly #options: LifeOptions;
  readonly #world: World;
  readonly #oracle: Oracle;
  #requestCount = 8;
  /** Nothing can be said of the disk any more. */
  #isOver = false;
  /** While clients are being served. */
  #requests: Requests | undefined;
  /** What their threads share. */
  #shared: ReadonlySet<ArrayBufferLike> = new Set();
  #control: Int32Array = new Int32Array(Control.LENGTH);

  private constructor(options: LifeOptions, world: World, next: Random) {
    this.#options = options;
    this.#world = world;
    this.#next = next;
    this.#rare = random(options.seed ^ 0x68e3_1da4);
    this.#oracle = new Oracle(world.windows, world.initial);
    const look = random(options.seed ^ 0x5bd1_e995);
    this.witness = new Witness(world, this.#oracle, look, (line) => this.#trace(line));
  }

  static async begin(options: LifeOptions): Promise<Life> {
    const next = random(options.seed);
    return new Life(options, await makeWorld(next), next);
  }

  #trace(line: string): void {
    this.#options.onTrace?.(`${this.witness.changes}: ${line}`);
  }

  /** @throws Violation which says after how many changes of which life */
  async run(): Promise<void> {
    const { parts, blockCount } = this.#world;
    this.#trace(`${parts.join(",")}, ${blockCount} blocks`);
    const release = watchMemory({
      isShared: (memory) => this.#shared.has(memory) && this.#requests !== undefined,
      thread: () => this.#requests?.current,
      step: () => this.#letOthersIn(this.#control[Control.ORDER] === 0 ? 0.08 : 0.12),
      sleep: () => {
        if (!this.#requests) throw new Violation("waits for a lock while it opens or closes");
        if (this.witness.isDead) this.witness.die();
        this.#requests.makeWay();
      },
      spin: () => this.witness.die(),
    });
    const now = Date.now;
    const time = random(this.#options.seed ^ 0x2545_f491);
    let milliseconds = 0;
    // Generations come by the clock: here as the seed has it.
    Date.now = () => {
      if (time() < 0.5) milliseconds++;
      return milliseconds;
    };
    try {
      await this.#run();
    } catch (error) {
      const violation = this.witness.violation ?? error;
      const message = violation instanceof Error ? violation.message : String(violation);
      throw new Violation(`seed ${this.#options.seed}, change ${this.witness.changes}: ${message}`, {
        cause: violation,
      });
    } finally {
      Date.now = now;
      release();
    }
  }

  async #run(): Promise<void> {
    for (let sessions = whole(this.#next, 2, 6); sessions > 0 && !this.#isOver; sessions--) {
      const ending = await this.#process(false);
      if (ending !== "close" && !this.#isOver && this.#next() < 0.2) await this.#process(false, true);
      if (!this.#isOver && this.#next() < 0.2) this.#visit();
    }
    // Whatever came before, a sound process on a sound disk ends in order.
    if (!this.#isOver) await this.#process(true);
  }

  /** One process, from its start to its end. */
  async #process(isSound: boolean, repairs = false): Promise<Ending> {
    const next = this.#next;
    const { witness } = this;
    // From a stream of its own, so that all other sessions stay what they are.
    const failsOnce = !isSound && !repairs && this.#rare() < 0.12;
    const drawn = isSound ? "close" : pick(next, ["close", "kill", "kill", "power-cut"] as const);
    const wanted = failsOnce ? "close" : drawn;
    // A quarter of the sudden deaths come while it opens or soon afterwards; some while it closes.
    const changes = repairs || next() < 0.25 ? whole(next, 0, 12) : whole(next, 5, 120);
    const isSudden = wanted !== "close" || (!isSound && !failsOnce && next() < 0.2);
    const steps = wanted === "close" ? whole(next, 0, 40) : STEPS_AT_MOST;
    this.#trace(`-- ${repairs ? "repairs" : "opens"}; ${isSudden ? `dies after ${changes} changes` : "ends in order"}`);
    const faults = new Faults(next, !isSound, (step) => witness.isAllocated(step), failsOnce);
    const storage = new SteppedStorage(
      witness.mount(isSudden ? witness.changes + changes : Number.POSITIVE_INFINITY),
      this.#stepper(faults),
    );
    const isDone = await this.#survives(faults, () =>
      repairs ? this.#repair(storage) : this.#serve(storage, steps, faults),
    );
    this.#requests = undefined;
    witness.look();
    if (witness.violation) throw witness.violation;
    if (isDone) return "close";
    const ending = wanted === "close" || !witness.isDead ? pick(next, ["kill", "power-cut"] as const) : wanted;
    this.#trace(`-- ${ending}`);
    if (ending === "power-cut") witness.powerCut(next);
    // After an fsync that failed, the page cache has what the disk will never get.
    else if (faults.isBroken) this.#isOver = true;
    witness.settle(ending);
    return ending;
  }

  /** @returns false where the work was cut off: by death, or by a disk that failed */
  async #survives(faults: Faults, work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (this.witness.isDead) return false;
      const isExcused = error instanceof Lost ? faults.isSick : error instanceof CowError && faults.count > 0;
      if (!isExcused) throw error;
      this.#trace(`failed: ${String(error)}`);
      return false;
    }
  }

  async #serve(storage: SteppedStorage, steps: number, faults: Faults): Promise<void> {
    const { stack, config } = await this.#open(storage, pick(this.#next, SLOTS));
    this.#trace(`found ${stack.found}, the disk is ${faults.health}`);
    this.#work(stack, config, steps, faults);
    this.#trace("closes");
    const since = this.#oracle.flushBegins();
    stack.close();
    this.#oracle.flushed(since, []);
  }

  async #open(storage: SteppedStorage, slots: number): Promise<{ stack: ServedStack; config: CowfileConfig }> {
    let config: CowfileConfig | undefined;
    const open: typeof WritableCowfile.open = (...parameters) => {
      const cowfile = openWritable(...parameters);
      const control = cowfile.shared.config.state.control;
      const slotsPerHalf = slots + (control[Control.NEXT_SLOT] ?? 0);
      if (slotsPerHalf < cowfile.shared.config.slotsPerHalf) {
        Object.assign(cowfile.shared.config, { slotsPerHalf });
        control.fill(slotsPerHalf, Control.SLOTS, Control.SLOTS + 2);
      }
      Object.assign(cowfile.shared.config, { logBytes: pick(this.#next, LOGS) });
      config = cowfile.shared.config;
      return cowfile;
    };
    Object.assign(WritableCowfile, { open });
    try {
      const { boot, needsSearch } = this.witness;
      const stack = await ServedStack.open(storage, this.#world.parts.join(","), {
        access: "writable",
        boot,
        repair: needsSearch,
      });
      if (!config) throw new Error("no cowfile was opened");
      return { stack, config };
    } finally {
      Object.assign(WritableCowfile, { open: openWritable });
    }
  }

  #work(stack: ServedStack, config: CowfileConfig, steps: number, faults: Faults): void {
    const next = this.#next;
    const images = Array.from({ length: pick(next, [1, 2, 2, 2, 3]) }, () => stack.image());
    const [first] = images;
    if (!first) throw new Error("no thread");
    const bytes = readWindows(first, this.#world.windows);
    const wrong = this.#oracle.firstWrong(bytes, "kill");
    if (wrong !== undefined) throw new Violation(`once open: sector ${wrong} ${this.#oracle.explain(wrong, bytes)}`);
    const requests = new Requests({
      next,
      oracle: this.#oracle,
      locks: new Locks(config.state),
      images,
      takeNumber: () => ++this.#requestCount,
      trace: (line) => this.#trace(line),
      faults,
      stuck: () => this.witness.die(),
      isDatabase: next() < 0.4,
    });
    this.#requests = requests;
    this.#shared = new Set([config.state.control.buffer]);
    this.#control = config.state.control;
    this.witness.journalEnd = config.logOffsetBytes + config.logBytes;
    for (let i = 0; i < steps; i++) {
      requests.step();
      if (this.witness.violation) throw this.witness.violation;
      // Ends while what a failed write left is still there, and not overwritten yet.
      if (faults.isOver) break;
    }
    for (const thread of requests.threads) requests.reply(thread);
    this.#requests = undefined;
  }

  /** `cowtool repair`, as another process than the one that died. */
  async #repair(storage: SteppedStorage): Promise<void> {
    const { boot } = this.witness;
    const companion = (suffix: string) => (storage.facts(COW + suffix) ? storage.open(COW + suffix) : undefined);
    const device = storage.open(COW, { writable: true });
    // With force it would bring back into a clean file what was never replied to, as it should.
    const force =
      this.#next() < 0.5 && new RawCowfile(this.witness.disk.killed().get(COW) ?? new SparseBytes()).isDirty;
    const aside = () => asideFile(storage, COW);
    await repairCowfile(device, { dryRun: false, force, dropLost: false, boot, companion, aside });
    storage.remove(JOURNAL);
    this.#oracle.flushed(this.#oracle.flushBegins(), []);
  }

  /** The original tools get hold of the file. */
  #visit(): void {
    const { witness } = this;
    const files = witness.disk.killed();
    const content = files.get(COW);
    if (!content) throw new Violation("the cowfile is gone");
    const { bytes, needsSearch, story } = byOriginals(content, this.#world, this.#next, () => ++this.#requestCount);
    this.#trace(`-- the originals: ${story}`);
    witness.disk = Disk.of(files);
    witness.strays = new RawCowfile(content).unmarked();
    witness.needsSearch = needsSearch;
    this.#oracle.reset(bytes);
    witness.settle("kill");
  }

  #letOthersIn(chance: number, areMany = false): void {
    if (!this.witness.isDead && this.#requests && this.#next() < chance) this.#requests.interrupt(areMany);
  }

  #stepper(faults: Faults): Stepper {
    // In some lives many things happen while a thread writes its entries into the journal.
    const isCrowded = this.#options.seed % 4 === 3;
    const interrupt = ({ path, kind }: Step): void => {
      if (isCrowded && path === JOURNAL && kind === "write") this.#letOthersIn(0.5, true);
      // What others do while a flush is under way is where the order of things shows.
      this.#letOthersIn(kind === "flush" ? 0.5 : 0.15);
    };
    // Names begin to count once the file has its name.
    const withName = (step: Step): Step => (step.isUnfinished ? { ...step, path: `${step.path} (unfinished)` } : step);
    return {
      before: (unnamed) => {
        if (!CHANGES.has(unnamed.kind)) return undefined;
        const step = withName(unnamed);
        interrupt(step);
        this.witness.requireDirty(step);
        if (this.#requests) this.witness.requireInJournal(step);
        return this.witness.isDead ? undefined : faults.before(step);
      },
      after: (step) => {
        if (CHANGES.has(step.kind)) interrupt(withName(step));
      },
    };
  }
}
