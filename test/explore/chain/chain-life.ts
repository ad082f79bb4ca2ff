/**
 * Owns one life of disks with checkpoints: sessions of a server with random requests and checkpoints of one disk or several,
 * and commands on stack files in between, each ended in order, by a kill or by a power cut at any change. Everything follows
 * from the seed.
 */
import { CowError } from "../../../src/lib/index.ts";
import { random } from "../../support/random.ts";
import type { Random } from "../disk.ts";
import { Oracle } from "../oracle.ts";
import { watchMemory } from "../shared-memory.ts";
import { Died, Violation } from "../violation.ts";
import { pick, whole } from "../world.ts";
import { withBoot } from "./boot.ts";
import { ChainWitness } from "./chain-witness.ts";
import { type ChainWorld, makeChainWorld } from "./chain-world.ts";
import { type Clock, turns, watchClock } from "./main-thread.ts";
import type { DiskModel } from "./model.ts";
import { chooseOperation, type Operation } from "./operations.ts";
import { Service } from "./service.ts";

export interface ChainLifeOptions {
  readonly seed: number;
  readonly onTrace?: (line: string) => void;
}

type Ending = "close" | "kill" | "power-cut";

export class ChainLife {
  readonly witness: ChainWitness;
  readonly #options: ChainLifeOptions;
  readonly #world: ChainWorld;
  readonly #next: Random;
  #service: Service | undefined;
  #clock: Clock = { fire: () => undefined, release: () => undefined };
  #requestCount = 8;
  #nameCount = 0;
  /** What was cut off, and is to be done again before anything else. */
  #unfinished: Operation | undefined;

  private constructor(options: ChainLifeOptions, world: ChainWorld, next: Random) {
    this.#options = options;
    this.#world = world;
    this.#next = next;
    const look = random(options.seed ^ 0x5bd1_e995);
    const model = new Map<string, DiskModel>(
      world.disks.map((disk) => [disk, { image: new Oracle(world.windows, world.initial), checkpoints: new Map() }]),
    );
    this.witness = new ChainWitness(world, model, look, (line) => this.#trace(line));
  }

  static async begin(options: ChainLifeOptions): Promise<ChainLife> {
    const next = random(options.seed);
    return new ChainLife(options, await makeChainWorld(next), next);
  }

  #trace(line: string): void {
    this.#options.onTrace?.(`${this.witness.changes}: ${line}`);
  }

  /** @throws Violation which says after how many changes of which life */
  async run(): Promise<void> {
    this.#trace(`${this.#world.disks.join(",")}, ${this.#world.windows[0].count} sectors`);
    const release = watchMemory({
      isShared: (memory) => this.#service?.isShared(memory) ?? false,
      thread: () => this.#service?.current,
      step: () => this.#service?.letOthersIn(0.1),
      sleep: () => {
        if (!this.#service) throw new Violation("waits for a lock while it opens or closes");
        if (this.witness.isDead) this.witness.die();
        this.#service.makeWay();
      },
      spin: () => this.witness.die(),
    });
    this.#clock = watchClock(random(this.#options.seed ^ 0x2545_f491));
    const ignore = (error: unknown): void => {
      // Of a process that is dead by now.
      if (!(error instanceof Died)) throw error;
    };
    process.on("unhandledRejection", ignore);
    try {
      for (let processes = whole(this.#next, 2, 6); processes > 0; processes--) await this.#process(false);
      // Whatever came before, a sound process on a sound disk ends in order.
      await this.#process(true);
    } catch (error) {
      const violation = this.witness.violation ?? error;
      const message = violation instanceof Error ? violation.message : String(violation);
      throw new Violation(`seed ${this.#options.seed}, change ${this.witness.changes}: ${message}`, {
        cause: violation,
      });
    } finally {
      process.off("unhandledRejection", ignore);
      Service.unwatch();
      this.#clock.release();
      release();
    }
  }

  /** One process, from its start to its end. */
  async #process(isSound: boolean): Promise<void> {
    const next = this.#next;
    const { witness } = this;
    const wanted = isSound ? "close" : pick<Ending>(next, ["close", "kill", "kill", "power-cut"]);
    const isSudden = wanted !== "close" || (!isSound && next() < 0.2);
    // What made a second stack file is done again first: until then two may name one top.
    while (isSound && this.#unfinished) await this.#command(Number.POSITIVE_INFINITY);
    const serves = isSound || (!this.#unfinished && next() < 0.6);
    const changes = next() < 0.25 || !serves ? whole(next, 0, 20) : whole(next, 5, 90);
    const diesAt = isSudden ? witness.changes + changes : Number.POSITIVE_INFINITY;
    const steps = wanted === "close" ? whole(next, 0, 40) : 200;
    Service.unwatch();
    const isDone = await this.#survives(() => (serves ? this.#serve(diesAt, steps) : this.#command(diesAt)));
    this.#service = undefined;
    Service.unwatch();
    // What the dead process has begun finds out that it is dead.
    this.#clock.fire();
    await turns();
    witness.look();
    await witness.judgeAll();
    if (isDone) return;
    const ending = wanted === "close" ? pick(next, ["kill", "power-cut"] as const) : wanted;
    this.#trace(`-- ${ending}`);
    if (ending === "power-cut") witness.powerCut(next);
    await witness.settle(ending);
  }

  /** @returns false where the work was cut off by death */
  async #survives(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (this.witness.violation) throw this.witness.violation;
      if (this.witness.isDead) return false;
      throw error;
    }
  }

  async #command(diesAt: number): Promise<void> {
    const { witness } = this;
    const operation = this.#unfinished ?? chooseOperation(witness.model, this.#next, () => ++this.#nameCount);
    this.#trace(`-- ${operation.what}; dies at ${diesAt}`);
    const isThere = operation.makes !== undefined && witness.model.has(operation.makes);
    witness.begin(isThere ? { makes: operation.makes } : operation);
    if (operation.makes !== undefined) this.#unfinished = operation;
    try {
      await withBoot(witness.boot, () => operation.run({ storage: witness.mount(diesAt) }));
    } catch (error) {
      if (witness.isDead || !(error instanceof CowError)) throw error;
      throw new Violation(`${operation.what}: ${error.message}`, { cause: error });
    }
    witness.answered();
    this.#unfinished = undefined;
  }

  async #serve(diesAt: number, steps: number): Promise<void> {
    const { witness } = this;
    this.#trace(`-- serves; dies at ${diesAt}`);
    const service = await Service.open({
      world: this.#world,
      witness,
      storage: witness.mount(diesAt),
      next: this.#next,
      clock: this.#clock,
      takeName: () => ++this.#nameCount,
      trace: (line) => this.#trace(line),
      takeNumber: () => ++this.#requestCount,
    });
    this.#service = service;
    for (let i = 0; i < steps; i++) {
      await service.step();
      if (witness.isFull) await witness.judgeAll();
    }
    await service.end();
    this.#service = undefined;
    this.#trace("closes");
    service.close();
    Service.unwatch();
  }
}
