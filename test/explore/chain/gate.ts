/**
 * Owns the exploration of the gate of a stack: a connection that works on batches and the main thread that replaces the parts,
 * in every order of their steps. What the main thread does at once is a step of its own; the connection stops at each operation
 * on shared memory, and wherever it uses a part.
 */
import { inspect } from "node:util";
import { Gate, Passage } from "../../../src/lib/stack/live/gate.ts";
import type { Explored } from "../explore.ts";
import { watchMemory } from "../shared-memory.ts";
import { Violation } from "../violation.ts";

/** What the connection does: works on two batches, sends in the middle of the first one. */
const PROGRAM = [
  "enter",
  "change",
  "hold",
  "use",
  "goOn",
  "change",
  "use",
  "leave",
  "enter",
  "change",
  "leave",
] as const;

/** The main thread's steps, one after another; a step that has to wait is tried again at the next stop. */
class Main {
  readonly #gate: Gate;
  readonly #schedule: readonly number[];
  #done = 0;
  /** Nothing may be changed but by this epoch's parts. */
  instant = false;
  /** The files of the old parts. */
  areClosed = false;
  told = 0;

  constructor(gate: Gate, schedule: readonly number[]) {
    this.#gate = gate;
    this.#schedule = schedule;
  }

  get isAtRest(): boolean {
    return this.#done === STEPS.length;
  }

  /** @param stop how often the connection stopped before */
  run(stop: number): void {
    while ((this.#schedule[this.#done] ?? Number.POSITIVE_INFINITY) <= stop && this.#step());
  }

  /** The connection sleeps, or has ended. @returns false if nothing can be done */
  goOn(): boolean {
    return !this.isAtRest && this.#step();
  }

  #step(): boolean {
    const isDone = STEPS[this.#done]?.(this.#gate, this) ?? false;
    if (isDone) this.#done++;
    return isDone;
  }
}

/** Each is done at once, or has to wait. */
const STEPS: readonly ((gate: Gate, main: Main) => boolean)[] = [
  (gate) => {
    gate.close();
    return true;
  },
  (gate) => !gate.isActive,
  (gate, main) => {
    main.instant = true;
    main.told = 1;
    gate.advance();
    return true;
  },
  (gate) => {
    gate.open();
    return true;
  },
  (gate, main) => {
    if (inspect(gate.past(1)).includes("pending")) return false;
    main.areClosed = true;
    return true;
  },
];

/** Plays every order of steps, until one is wrong. */
export function exploreGate(): Explored {
  const stops = play([]);
  const explored: Explored = { lives: 0, states: 0, failures: [] };
  const choose = (schedule: readonly number[]): void => {
    if (explored.failures.length > 0) return;
    // What is left is done as soon as it can be.
    if (schedule.length < STEPS.length - 1) {
      for (let stop = schedule.at(-1) ?? 0; stop <= stops; stop++) choose([...schedule, stop]);
      return;
    }
    explored.states++;
    try {
      play([...schedule, schedule.at(-1) ?? 0]);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      explored.failures.push(error.message);
    }
  };
  choose([]);
  return explored;
}

/** @param schedule at which stop of the connection each step of the main thread is done @returns how often it stopped */
function play(schedule: readonly number[]): number {
  const gate = new Gate();
  const { passed } = gate.connect();
  const main = new Main(gate, schedule);
  let epoch = 0;
  /** Of the parts that the batch began with: what was read of them may be sent until its end. */
  let oldest = 0;
  let stops = 0;
  let isAtWork = false;
  const wrong = (what: string): never => {
    throw new Violation(`${what}: the main thread at stops ${schedule.join(" ")}`);
  };
  const stop = (): void => {
    if (!isAtWork) return;
    isAtWork = false;
    main.run(stops++);
    isAtWork = true;
  };
  const release = watchMemory({
    isShared: () => isAtWork,
    thread: () => "connection",
    step: stop,
    sleep: () => {
      isAtWork = false;
      if (!main.goOn()) wrong("the connection sleeps, and the main thread waits");
      isAtWork = true;
    },
    spin: () => wrong("the connection waits for ever"),
  });
  const passage = new Passage(passed, {
    get epoch() {
      return epoch;
    },
    reach: (next) => {
      if (next > main.told) wrong(`takes parts of epoch ${next}, which it was not told of`);
      epoch = next;
    },
  });
  try {
    isAtWork = true;
    for (const what of PROGRAM) {
      if (what !== "use" && what !== "change") {
        passage[what]();
        if (what === "enter") oldest = epoch;
        continue;
      }
      // Whatever happens in the middle of it.
      for (let i = 0; i < 2; i++) {
        if (oldest === 0 && main.areClosed) wrong("uses a part whose file is closed");
        if (what === "change" && epoch === 0 && main.instant) wrong("changes an old part after the instant");
        if (i === 0) stop();
      }
    }
    isAtWork = false;
    while (schedule.length > 0 && !main.isAtRest) if (!main.goOn()) wrong("the main thread waits for ever");
  } finally {
    release();
  }
  return stops;
}
