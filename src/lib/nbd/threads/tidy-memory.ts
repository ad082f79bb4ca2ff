/**
 * Owns giving memory back after many short connections, and after many exports were opened or closed. The JavaScript engine
 * collects garbage when it wants room for more: each thread that has served some thousand clients would keep a dozen megabytes
 * while nothing goes on, and the main one sixty after some hundred exports.
 */
import { trimMemory } from "../../device/sys/memory.ts";

/** Fewer leave nothing worth the milliseconds that it takes. */
const WORTH_IT = 64;
/** After this many it is done in any case. */
const TOO_MANY = 4096;
/** It is calm when none has ended for this time. */
const CALM_MS = 1000;

export class MemoryTidier {
  readonly #collect: (thoroughly: boolean) => void;
  #ended = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(collect = collectGarbage) {
    this.#collect = collect;
  }

  /** That many connections of this thread have ended, or exports were opened or closed. */
  count(ended = 1): void {
    this.#ended += ended;
    clearTimeout(this.#timer);
    if (this.#ended >= TOO_MANY) this.#tidy(false);
    else if (this.#ended >= WORTH_IT) this.#timer = setTimeout(() => this.#tidy(true), CALM_MS).unref();
  }

  /** Nothing is done any more. */
  end(): void {
    clearTimeout(this.#timer);
  }

  #tidy(isCalm: boolean): void {
    this.#ended = 0;
    this.#collect(isCalm);
  }
}

/** V8 frees unused pages of its heap only if memory is short, or as if it were: this takes some tens of milliseconds. */
const THOROUGHLY = { type: "major", flavor: "last-resort" } as const;

let collector: ((how?: typeof THOROUGHLY) => void) | undefined;

/** Takes a few milliseconds for a heap of a few megabytes. */
function collectGarbage(thoroughly: boolean): void {
  if (!collector) {
    // Most threads never need these modules, and start sooner without them.
    process.getBuiltinModule("node:v8").setFlagsFromString("--expose-gc");
    collector = process.getBuiltinModule("node:vm").runInNewContext("gc") as typeof collector;
  }
  collector?.(thoroughly ? THOROUGHLY : undefined);
  trimMemory();
}
