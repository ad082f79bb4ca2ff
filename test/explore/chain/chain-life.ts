/**
 * Owns one life of disks that stack files name: sessions of a server with random requests, each ended in order, by a kill or
 * by a power cut at any change. Everything follows from the seed.
 */
import { random } from "../../support/random.ts";
import type { Random } from "../disk.ts";
import { Oracle } from "../oracle.ts";
import { watchMemory } from "../shared-memory.ts";
import { Violation } from "../violation.ts";
import { pick, whole } from "../world.ts";
import { ChainWitness } from "./chain-witness.ts";
import { type ChainWorld, makeChainWorld } from "./chain-world.ts";
import type { DiskModel } from "./model.ts";
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
  #requestCount = 8;

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
    const now = Date.now;
    const time = random(this.#options.seed ^ 0x2545_f491);
    let milliseconds = 0;
    Date.now = () => {
      if (time() < 0.5) milliseconds++;
      return milliseconds;
    };
    try {
      for (let processes = whole(this.#next, 3, 9); processes > 0; processes--) await this.#process(false);
      // Whatever came before, a sound process on a sound disk ends in order.
      await this.#process(true);
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

  /** One process, from its start to its end. */
  async #process(isSound: boolean): Promise<void> {
    const next = this.#next;
    const { witness } = this;
    const wanted = isSound ? "close" : pick<Ending>(next, ["close", "kill", "kill", "power-cut"]);
    const isSudden = wanted !== "close" || (!isSound && next() < 0.2);
    const changes = next() < 0.25 ? whole(next, 0, 20) : whole(next, 5, 120);
    const diesAt = isSudden ? witness.changes + changes : Number.POSITIVE_INFINITY;
    const steps = wanted === "close" ? whole(next, 0, 40) : 200;
    const isDone = await this.#survives(() => this.#serve(diesAt, steps));
    this.#service = undefined;
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

  async #serve(diesAt: number, steps: number): Promise<void> {
    const { witness } = this;
    this.#trace(`-- serves; dies at ${diesAt}`);
    const service = await Service.open({
      world: this.#world,
      witness,
      storage: witness.mount(diesAt),
      next: this.#next,
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
  }
}
