/**
 * Owns one server's time in a life of chains: some of the disks, each with threads that make requests, in the middle of which
 * others run and the main thread works on chains.
 */

import { LOG_BYTES } from "../../../src/lib/formats/cowfile/live/flush-log.ts";
import type { MemoryStorage } from "../../../src/lib/index.ts";
import type { CowfileConfig } from "../../../src/lib/stack/live/cowfile-config.ts";
import { WritableCowfile } from "../../../src/lib/stack/live/open-cowfile.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { LowerStacks } from "../../../src/lib/stack/live/shared-lower.ts";
import { Control } from "../../../src/lib/stack/live/shared-state.ts";
import { SteppedStorage } from "../../support/storage/stepped-storage.ts";
import type { Random } from "../disk.ts";
import { Faults } from "../faults.ts";
import { Requests } from "../requests.ts";
import { Locks, type Thread } from "../threads.ts";
import { Violation } from "../violation.ts";
import { pick, readWindows } from "../world.ts";
import type { ChainWitness } from "./chain-witness.ts";
import type { ChainWorld } from "./chain-world.ts";

const SLOTS = [1 << 20, 40, 12, 5] as const;
const LOGS = [LOG_BYTES, 16 << 10, 4 << 10, 0] as const;
const openWritable = WritableCowfile.open.bind(WritableCowfile);

export interface ServiceOptions {
  readonly world: ChainWorld;
  readonly witness: ChainWitness;
  readonly storage: MemoryStorage;
  readonly next: Random;
  readonly trace: (line: string) => void;
  readonly takeNumber: () => number;
}

interface Served {
  readonly disk: string;
  readonly stack: ServedStack;
  readonly requests: Requests;
}

export class Service {
  readonly #options: ServiceOptions;
  readonly #served: readonly Served[];
  readonly #shared: Set<ArrayBufferLike>;
  readonly #running: Set<Thread>;

  private constructor(
    options: ServiceOptions,
    served: readonly Served[],
    shared: Set<ArrayBufferLike>,
    running: Set<Thread>,
  ) {
    this.#options = options;
    this.#served = served;
    this.#shared = shared;
    this.#running = running;
  }

  static async open(options: ServiceOptions): Promise<Service> {
    const { next, witness } = options;
    const storage = new SteppedStorage(options.storage, {
      before: (step) => {
        if (step.kind === "write" || step.kind === "flush" || step.kind === "punch") service?.letOthersIn(0.15);
        return undefined;
      },
      after: (step) => {
        if (step.kind === "write" || step.kind === "flush" || step.kind === "commit") service?.letOthersIn(0.15);
      },
    });
    let service: Service | undefined;
    const disks = [...witness.model.keys()];
    const some = disks.filter(() => next() < 0.8);
    const lowers = new LowerStacks(storage);
    const running = new Set<Thread>();
    const shared = new Set<ArrayBufferLike>();
    const served: Served[] = [];
    for (const disk of some.length > 0 ? some : disks.slice(0, 1)) {
      const { stack, config } = await openSmall(next, () =>
        ServedStack.open(storage, `stack:${disk}`, { access: "writable", boot: witness.boot, lowers }),
      );
      served.push({ disk, stack, requests: serve(options, disk, stack, config, running) });
      shared.add(config.state.control.buffer);
    }
    service = new Service(options, served, shared, running);
    return service;
  }

  isShared(memory: ArrayBufferLike): boolean {
    return this.#shared.has(memory);
  }

  get current(): Thread | undefined {
    return [...this.#running].at(-1);
  }

  letOthersIn(chance: number): void {
    const { witness, next } = this.#options;
    if (witness.isDead || next() >= chance) return;
    pick(next, this.#served).requests.interrupt();
  }

  makeWay(): void {
    const waiting = this.#served.find(({ requests }) => this.current && requests.threads.includes(this.current));
    const holding = this.#served.find(({ requests }) => requests.holder);
    (waiting ?? holding ?? pick(this.#options.next, this.#served)).requests.makeWay();
  }

  async step(): Promise<void> {
    pick(this.#options.next, this.#served).requests.step();
  }

  /** Everybody is told. */
  async end(): Promise<void> {
    for (const { requests } of this.#served) for (const thread of requests.threads) requests.reply(thread);
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

function serve(
  { witness, world, next, trace, takeNumber }: ServiceOptions,
  disk: string,
  stack: ServedStack,
  config: CowfileConfig,
  running: Set<Thread>,
): Requests {
  const oracle = witness.model.get(disk)?.image;
  if (!oracle) throw new Error(`there is no ${disk}`);
  const images = Array.from({ length: pick(next, [1, 2, 2]) }, () => stack.image());
  const [first] = images;
  if (!first) throw new Error("no thread");
  const bytes = readWindows(first, world.windows);
  const wrong = oracle.firstWrong(bytes, "kill");
  if (wrong !== undefined) throw new Violation(`once open: sector ${wrong} ${oracle.explain(wrong, bytes)}`);
  return new Requests({
    next,
    oracle,
    locks: new Locks(config.state),
    images,
    takeNumber,
    trace: (line) => trace(`${disk} ${line}`),
    faults: new Faults(next, false, () => true),
    stuck: () => witness.die(),
    isDatabase: next() < 0.4,
    running,
  });
}

/** Opens with a journal and a flush log that are soon full. */
async function openSmall<Result>(
  next: Random,
  open: () => Promise<Result>,
): Promise<{ readonly stack: Result; readonly config: CowfileConfig }> {
  let config: CowfileConfig | undefined;
  const slots = pick(next, SLOTS);
  const small: typeof WritableCowfile.open = (...parameters) => {
    const cowfile = openWritable(...parameters);
    const { control } = cowfile.shared.config.state;
    const slotsPerHalf = slots + (control[Control.NEXT_SLOT] ?? 0);
    if (slotsPerHalf < cowfile.shared.config.slotsPerHalf) {
      Object.assign(cowfile.shared.config, { slotsPerHalf });
      control.fill(slotsPerHalf, Control.SLOTS, Control.SLOTS + 2);
    }
    Object.assign(cowfile.shared.config, { logBytes: pick(next, LOGS) });
    config = cowfile.shared.config;
    return cowfile;
  };
  Object.assign(WritableCowfile, { open: small });
  try {
    const stack = await open();
    if (!config) throw new Error("no cowfile was opened");
    return { stack, config };
  } finally {
    Object.assign(WritableCowfile, { open: openWritable });
  }
}
