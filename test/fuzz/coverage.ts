/**
 * Owns what the running code has reached, as V8 counts it: block by block, without any change to the code. jazzer.js would
 * do the same by instrumentation; its native part wants a newer C library than we may ask for.
 */

import type { Profiler } from "node:inspector";
import { Session } from "node:inspector";

/** Only this counts. Must be started before what it is to see is imported. */
export class Coverage {
  readonly #session = new Session();
  readonly #isOfInterest: (url: string) => boolean;

  constructor(isOfInterest: (url: string) => boolean) {
    this.#isOfInterest = isOfInterest;
    this.#session.connect();
    this.#session.post("Profiler.enable");
    this.#session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  }

  /** The functions that ran since the last call, with their blocks. Nothing may be running meanwhile. */
  take(): readonly FunctionSeen[] {
    const functions: FunctionSeen[] = [];
    // The session is of this very thread: it answers before post() returns.
    this.#session.post("Profiler.takePreciseCoverage", (error, result) => {
      if (error) throw error;
      for (const { url, functions: found } of result.result) {
        if (!this.#isOfInterest(url)) continue;
        for (const { ranges } of found) {
          const [whole] = ranges;
          if (whole && whole.count > 0) functions.push({ url, ranges });
        }
      }
    });
    return functions;
  }
}

export interface FunctionSeen {
  readonly url: string;
  /** The whole function, then blocks of it that ran more or less often, outer ones first. */
  readonly ranges: readonly Profiler.CoverageRange[];
}

/** Everything reached so far: characters of source text, by function. */
export class Reached {
  readonly #functions = new Map<string, Uint8Array>();
  /** What was looked at before: most of what comes is the same again. */
  readonly #known = new Set<string>();
  characters = 0;

  /** Adds what ran. @returns whether any of it is new */
  add(functions: readonly FunctionSeen[]): boolean {
    const before = this.characters;
    for (const seen of functions) this.#look(seen, true);
    return this.characters > before;
  }

  /** Would any of it be new? */
  isNew(functions: readonly FunctionSeen[]): boolean {
    return functions.some((seen) => this.#look(seen, false));
  }

  #look(seen: FunctionSeen, isAdded: boolean): boolean {
    const key = signature(seen);
    const [whole] = seen.ranges;
    if (!whole || this.#known.has(key)) return false;
    const name = `${seen.url}:${whole.startOffset}`;
    const reached = this.#functions.get(name) ?? new Uint8Array(whole.endOffset - whole.startOffset);
    const now = new Uint8Array(reached.length);
    for (const { startOffset, endOffset, count } of seen.ranges)
      now.fill(count > 0 ? 1 : 0, startOffset - whole.startOffset, endOffset - whole.startOffset);
    let fresh = 0;
    for (const [i, is] of now.entries()) {
      if (is === 0 || reached[i] === 1) continue;
      fresh++;
      if (isAdded) reached[i] = 1;
    }
    if (isAdded) {
      this.#functions.set(name, reached);
      this.characters += fresh;
    }
    if (isAdded || fresh === 0) this.#known.add(key);
    return fresh > 0;
  }
}

function signature({ url, ranges }: FunctionSeen): string {
  return `${url} ${ranges.map(({ startOffset, endOffset, count }) => `${startOffset}-${endOffset}${count > 0 ? "" : "!"}`).join()}`;
}
