/**
 * Owns what goes wrong with a disk during a session: it is full for a while, writes or fsyncs fail, holes can't be punched.
 */
import { CowError } from "../../src/lib/index.ts";
import type { Fate, Step } from "../support/storage/stepped-storage.ts";
import { type Random, SECTOR_BYTES } from "./disk.ts";
import { COW, pick, whole } from "./world.ts";

type Fault = Fate & ("cannot" | { readonly error: CowError });

/** How a disk is during a session. */
type Health =
  | "sound"
  | "no-holes"
  | "full"
  | "write-errors"
  | "punch-errors"
  | "fsync-error"
  | "map-errors"
  | "one-write";

export class Faults {
  readonly health: Health;
  /** How many changes were made to fail. */
  count = 0;
  /** An fsync has failed. */
  isBroken = false;
  /** Something failed that nobody has to live with: from then on everything may be refused. */
  isSick = false;
  /** No more faults: whatever failed is well again. */
  isOver = false;
  readonly #next: Random;
  #steps = 0;
  #flushes = 0;
  readonly #from: number;
  readonly #to: number;

  readonly #isAllocated: (step: Step) => boolean;
  readonly #isOfMap = ({ path, offset }: Step): boolean => path === COW && offset >= 1024 && offset < 4096;
  readonly #isOfData = ({ path, offset }: Step): boolean => path === COW && offset >= 4096;

  /** @param failsOnce nothing goes wrong but one write of data, in its middle */
  constructor(next: Random, isAllowed: boolean, isAllocated: (step: Step) => boolean, failsOnce = false) {
    this.#next = next;
    this.#isAllocated = isAllocated;
    const sick = pick(next, ["full", "full", "write-errors", "punch-errors", "fsync-error", "map-errors"] as const);
    const health = isAllowed && next() < 0.35 ? sick : next() < 0.15 ? "no-holes" : "sound";
    this.health = failsOnce ? "one-write" : health;
    this.#from = whole(next, 0, this.health === "fsync-error" ? 12 : 40);
    this.#to = this.#from + whole(next, 1, 30);
  }

  before(step: Step): Fault | undefined {
    this.#steps++;
    if (step.kind === "flush") this.#flushes++;
    const fault = this.isOver ? undefined : this.#choose(step);
    if (fault && fault !== "cannot") {
      this.count++;
      this.isSick ||= fault.error.code === "io";
    }
    return fault;
  }

  #choose(step: Step): Fault | undefined {
    const { health } = this;
    const isInTime = this.#steps > this.#from && this.#steps <= this.#to;
    if (step.kind === "punch" && health === "no-holes") return "cannot";
    if (step.kind === "punch" && health === "punch-errors" && isInTime && this.#next() < 0.5)
      return failure("io", step);
    if (step.kind === "write" && health === "full" && isInTime && !this.#isAllocated(step) && this.#next() < 0.8)
      return this.#cutShort("no-space", step);
    if (step.kind === "write" && health === "write-errors" && this.#next() < 0.05) return this.#cutShort("io", step);
    if (step.kind === "write" && health === "map-errors" && this.#isOfMap(step) && this.#next() < 0.6)
      return this.#cutShort("io", step);
    if (step.kind === "write" && health === "one-write" && this.#steps > this.#from && !this.#isAllocated(step)) {
      const stop = Math.floor((step.offset + step.length - 1) / SECTOR_BYTES) * SECTOR_BYTES;
      if (!this.#isOfData(step) || stop <= step.offset) return undefined;
      this.isOver = true;
      return { ...failure("no-space", step), doneBytes: stop - step.offset };
    }
    if (step.kind === "flush" && health === "fsync-error" && this.#flushes > this.#from && !this.isBroken) {
      this.isBroken = true;
      return failure("io", step);
    }
    return undefined;
  }

  /** A part of it may have been written. */
  #cutShort(code: "io" | "no-space", step: Step): Fault {
    const stop = Math.floor((step.offset + whole(this.#next, 0, step.length)) / SECTOR_BYTES) * SECTOR_BYTES;
    return { ...failure(code, step), doneBytes: this.#next() < 0.5 ? 0 : Math.max(0, stop - step.offset) };
  }
}

function failure(code: "io" | "no-space", { path, kind, offset }: Step) {
  return { doneBytes: 0, error: new CowError(code, `injected: ${kind} at ${offset} fails`, { file: path }) };
}
