/**
 * Owns giving memory back after many short connections. The JavaScript engine collects garbage when it wants room for
 * more: each thread that has served some thousand clients would keep a dozen megabytes while nothing goes on.
 */
import { trimMemory } from "../../device/sys/memory.ts";

/** Fewer connections leave nothing worth the milliseconds that it takes. */
const WORTH_IT = 64;
/** After this many it is done in any case. */
const TOO_MANY = 4096;
/** It is calm when no connection has ended for this time. */
const CALM_MS = 1000;

export class MemoryTidier {
  readonly #collect: () => void;
  #ended = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(collect = collectGarbage) {
    this.#collect = collect;
  }

  /** A connection of this thread has ended. */
  connectionEnded(): void {
    this.#ended++;
    clearTimeout(this.#timer);
    if (this.#ended >= TOO_MANY) this.#tidy();
    else if (this.#ended >= WORTH_IT) this.#timer = setTimeout(() => this.#tidy(), CALM_MS).unref();
  }

  /** Nothing is done any more. */
  end(): void {
    clearTimeout(this.#timer);
  }

  #tidy(): void {
    this.#ended = 0;
    this.#collect();
  }
}

let collector: (() => void) | undefined;

/** Takes a few milliseconds for a heap of a few megabytes. */
function collectGarbage(): void {
  if (!collector) {
    // Most threads never need these modules, and start sooner without them.
    process.getBuiltinModule("node:v8").setFlagsFromString("--expose-gc");
    collector = process.getBuiltinModule("node:vm").runInNewContext("gc") as () => void;
  }
  collector();
  trimMemory();
}
