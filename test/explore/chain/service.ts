/**
 * Owns one server's time in a life of chains: some of the disks, each with threads that make requests, in the middle of which
 * others run, and the main thread, which makes checkpoints and settles what was frozen.
 */
import { LOG_BYTES } from "../../../src/lib/formats/cowfile/live/flush-log.ts";
import type { MemoryStorage } from "../../../src/lib/index.ts";
import { checkpointNames } from "../../../src/lib/stack/chain.ts";
import { type AssembledImage, replaceParts } from "../../../src/lib/stack/live/assemble.ts";
import { checkpointStacks, type Member } from "../../../src/lib/stack/live/checkpoint-chain.ts";
import { FrozenTop } from "../../../src/lib/stack/live/frozen-top.ts";
import { Passage } from "../../../src/lib/stack/live/gate.ts";
import { WritableCowfile } from "../../../src/lib/stack/live/open-cowfile.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { LowerStacks } from "../../../src/lib/stack/live/shared-lower.ts";
import { Control } from "../../../src/lib/stack/live/shared-state.ts";
import { newLayerPath } from "../../../src/lib/stack/new-layer-path.ts";
import { SteppedStorage } from "../../support/storage/stepped-storage.ts";
import type { Random } from "../disk.ts";
import { Faults } from "../faults.ts";
import { type Door, Requests } from "../requests.ts";
import { Locks, type Thread } from "../threads.ts";
import { Violation } from "../violation.ts";
import { pick, readWindows } from "../world.ts";
import type { ChainWitness } from "./chain-witness.ts";
import type { ChainWorld } from "./chain-world.ts";
import { type Clock, turns } from "./main-thread.ts";
import { withCheckpoint } from "./operations.ts";

const SLOTS = [1 << 20, 40, 12, 5] as const;
const LOGS = [LOG_BYTES, 16 << 10, 4 << 10, 0] as const;
const MOST_CHECKPOINTS = 5;
const STEPS = new Set(["write", "flush", "punch", "resize"]);

const openWritable = WritableCowfile.open.bind(WritableCowfile);
const newMemory = FrozenTop.newMemory.bind(FrozenTop);

export interface ServiceOptions {
  readonly world: ChainWorld;
  readonly witness: ChainWitness;
  readonly storage: MemoryStorage;
  readonly next: Random;
  readonly clock: Clock;
  readonly trace: (line: string) => void;
  readonly takeNumber: () => number;
  readonly takeName: () => number;
}

interface Served {
  readonly disk: string;
  readonly stack: ServedStack;
  readonly requests: Requests;
}

export class Service {
  readonly #options: ServiceOptions;
  readonly #storage: SteppedStorage;
  readonly #served: Served[] = [];
  /** What threads share, of every top and gate. */
  readonly #shared = new Set<ArrayBufferLike>();
  readonly #running = new Set<Thread>();
  /** The checkpoint that is being made. */
  #making: Promise<void> | undefined;
  #failure: unknown;

  private constructor(options: ServiceOptions) {
    this.#options = options;
    this.#storage = new SteppedStorage(options.storage, {
      before: ({ kind }) => {
        if (STEPS.has(kind)) this.letOthersIn(kind === "flush" ? 0.4 : 0.15);
        return undefined;
      },
      after: ({ kind }) => {
        if (STEPS.has(kind) || kind === "commit") this.letOthersIn(0.15);
      },
    });
  }

  static async open(options: ServiceOptions): Promise<Service> {
    const { next, witness } = options;
    const service = new Service(options);
    service.#watchOpening();
    const disks = [...witness.model.keys()];
    const some = disks.filter(() => next() < 0.8);
    const lowers = new LowerStacks(service.#storage);
    for (const disk of some.length > 0 ? some : disks.slice(0, 1)) await service.#serve(disk, lowers);
    return service;
  }

  /** Cowfiles have journals and flush logs that are soon full, and what their threads share is watched. */
  #watchOpening(): void {
    const { next } = this.#options;
    const slots = pick(next, SLOTS);
    const open: typeof WritableCowfile.open = (storage, path, device, options) => {
      // States are judged in between.
      if (storage !== this.#storage) return openWritable(storage, path, device, options);
      const cowfile = openWritable(storage, path, device, options);
      const { config } = cowfile.shared;
      const { control } = config.state;
      const slotsPerHalf = slots + (control[Control.NEXT_SLOT] ?? 0);
      if (slotsPerHalf < config.slotsPerHalf) {
        Object.assign(config, { slotsPerHalf });
        control.fill(slotsPerHalf, Control.SLOTS, Control.SLOTS + 2);
      }
      Object.assign(config, { logBytes: pick(next, LOGS) });
      this.#shared.add(control.buffer);
      return cowfile;
    };
    Object.assign(WritableCowfile, { open });
    const memory = (): SharedArrayBuffer => {
      const made = newMemory();
      this.#shared.add(made);
      return made;
    };
    Object.assign(FrozenTop, { newMemory: memory });
  }

  static unwatch(): void {
    Object.assign(WritableCowfile, { open: openWritable });
    Object.assign(FrozenTop, { newMemory });
  }

  async #serve(disk: string, lowers: LowerStacks): Promise<void> {
    const { witness, world, next, trace, takeNumber } = this.#options;
    const { boot } = witness;
    const stack = await ServedStack.open(this.#storage, `stack:${disk}`, { access: "writable", boot, lowers });
    const oracle = witness.model.get(disk)?.image;
    if (!oracle) throw new Error(`there is no ${disk}`);
    const images = Array.from({ length: pick(next, [1, 2, 2]) }, () => stack.image());
    const [first] = images;
    if (!first) throw new Error("no thread");
    const bytes = readWindows(first, world.windows);
    const wrong = oracle.firstWrong(bytes, "kill");
    if (wrong !== undefined) throw new Violation(`once open: sector ${wrong} ${oracle.explain(wrong, bytes)}`);
    const requests = new Requests({
      next,
      oracle,
      get locks() {
        return new StackLocks(stack);
      },
      images,
      takeNumber,
      trace: (line) => trace(`${disk} ${line}`),
      faults: new Faults(next, false, () => true),
      stuck: () => witness.die(),
      isDatabase: next() < 0.4,
      running: this.#running,
      door: this.#door(stack, images),
    });
    this.#served.push({ disk, stack, requests });
  }

  /** Each thread goes its own way through the gate, and takes the parts that there are behind it. */
  #door(stack: ServedStack, images: readonly AssembledImage[]): Door {
    const passages = new Map<unknown, Passage>();
    let shut: Int32Array | undefined;
    for (const image of images) {
      const { passed } = stack.gate.connect();
      shut = new Int32Array(passed.words);
      this.#shared.add(passed.words).add(passed.slot);
      let { epoch } = stack.gate;
      const current = {
        get epoch() {
          return epoch;
        },
        reach: (reached: number) => {
          replaceParts(image, stack.imageParts());
          epoch = reached;
        },
      };
      passages.set(image, new Passage(passed, current));
    }
    return {
      get isShut() {
        return shut?.[0] === 1;
      },
      enter: ({ image }) => passages.get(image)?.enter(),
      leave: ({ image }) => passages.get(image)?.leave(),
    };
  }

  isShared(memory: ArrayBufferLike): boolean {
    return this.#shared.has(memory);
  }

  get current(): Thread | undefined {
    return [...this.#running].at(-1);
  }

  get #isMainAtWork(): boolean {
    return this.#running.size === 0 && this.#making !== undefined;
  }

  letOthersIn(chance: number): void {
    const { witness, next } = this.#options;
    if (witness.isDead || this.#served.length === 0 || next() >= chance) return;
    try {
      pick(next, this.#served).requests.interrupt(false, this.#isMainAtWork);
    } catch (error) {
      // The main thread may take it for something that went wrong with its work.
      if (error instanceof Violation) witness.violation ??= error;
      throw error;
    }
  }

  makeWay(): void {
    const waiting = this.#served.find(({ requests }) => this.current && requests.threads.includes(this.current));
    const holding = this.#served.find(({ requests }) => requests.holder);
    // It waits for the main thread, which is stopped.
    if (!holding && this.#making !== undefined) this.#options.witness.die();
    (waiting?.requests.holder ? waiting : (holding ?? pick(this.#options.next, this.#served))).requests.makeWay();
  }

  async step(): Promise<void> {
    const { next, clock, witness } = this.#options;
    if (!this.#making && next() < 0.12) this.#beginCheckpoint();
    else pick(next, this.#served).requests.step();
    if (next() < 0.3) clock.fire();
    if (next() < 0.6) await turns();
    if (this.#failure !== undefined) throw this.#failure;
    witness.isBusy = this.#making !== undefined;
  }

  #beginCheckpoint(): void {
    const { next, witness, trace, takeName } = this.#options;
    const some = this.#served.filter(
      ({ disk }) => next() < 0.7 && (witness.model.get(disk)?.checkpoints.size ?? 0) < MOST_CHECKPOINTS,
    );
    const [first] = some;
    if (!first) return;
    const name = `c${takeName()}`;
    const members = some.map(({ disk, stack }): Member => {
      const beside = stack.writtenPath ?? "";
      const newTop = newLayerPath(this.#storage, disk, beside, name);
      return { stack, storage: this.#storage, newTop, tell: () => undefined };
    });
    trace(`checkpoint ${some.map(({ disk }) => disk).join(" ")} --as ${name}`);
    witness.begin({
      transition: {
        decidedBy: first.disk,
        isDone: (document) => checkpointNames(document).includes(name),
        after: (before) => some.reduce((model, { disk }) => withCheckpoint(model, disk, name), before),
      },
    });
    const time = new Date().toISOString();
    // As the server answers: once the old tops are settled.
    this.#making = checkpointStacks(members as [Member, ...Member[]], { name, time })
      .then(() => Promise.all(some.map(({ stack }) => stack.settling)))
      .then(
        () => {
          this.#making = undefined;
          if (witness.isDead) return;
          trace(`checkpoint ${name} is answered`);
          witness.answered();
        },
        (error: unknown) => {
          this.#making = undefined;
          this.#failure = error;
        },
      );
  }

  /** Every client is told, and what the main thread has begun comes to its end. */
  async end(): Promise<void> {
    for (const { requests } of this.#served) for (const thread of requests.threads) requests.reply(thread);
    for (let i = 0; i < 1000 && this.#making !== undefined; i++) {
      this.#options.clock.fire();
      await turns();
      await new Promise(setImmediate);
    }
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#making !== undefined) throw new Violation("a checkpoint comes to no end");
  }

  close(): void {
    for (const { disk, stack } of this.#served) {
      const oracle = this.#options.witness.model.get(disk)?.image;
      const since = oracle?.flushBegins() ?? 0;
      stack.close();
      oracle?.flushed(since, []);
    }
  }
}

/** Of the top as it is now, and of the layer that was it before. */
class StackLocks extends Locks {
  readonly #stack: ServedStack;

  constructor(stack: ServedStack) {
    const state = stack.parts.top?.shared?.config.state;
    if (!state) throw new Error("a cowfile is written");
    super(state);
    this.#stack = stack;
  }

  override canFlush(pendingBlocks: number, mindsWriters = true): boolean {
    const { frozen } = this.#stack.parts;
    if (frozen) {
      const [lock, isSettled, named] = new Int32Array(frozen.layer.memory);
      const state = frozen.top.shared?.config.state;
      if (isSettled === 0 && (lock !== 0 || named === 0)) return false;
      if (isSettled === 0 && state && !new Locks(state).canFlush(0)) return false;
    }
    return super.canFlush(pendingBlocks, mindsWriters);
  }
}
