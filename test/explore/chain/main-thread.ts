/**
 * Owns what a life of chains puts in the place of clocks and timers, so that what the main thread waits for comes by the seed.
 */
import type { Random } from "../disk.ts";

export interface Clock {
  /** Timers that are due fire now, in their order. */
  fire(): void;
  release(): void;
}

/** Every look at a clock takes a moment; timers fire when they are told to. */
export function watchClock(next: Random): Clock {
  const { setTimeout: setRealTimeout } = globalThis;
  const dateNow = Date.now;
  const performanceNow = performance.now.bind(performance);
  let milliseconds = 0;
  let ticks = 0;
  let due: (() => void)[] = [];
  Date.now = () => {
    if (next() < 0.5) milliseconds++;
    return milliseconds;
  };
  performance.now = () => {
    ticks++;
    return ticks / 100;
  };
  Object.assign(globalThis, {
    setTimeout: (callback: () => void) => {
      due.push(callback);
      return { unref: () => undefined };
    },
  });
  return {
    fire: () => {
      const now = due;
      due = [];
      for (const callback of now) callback();
    },
    release: () => {
      Date.now = dateNow;
      performance.now = performanceNow;
      Object.assign(globalThis, { setTimeout: setRealTimeout });
    },
  };
}

const TURNS = 40;

/** Lets what waits for nothing but others of this process go on. */
export async function turns(): Promise<void> {
  for (let i = 0; i < TURNS; i++) await undefined;
}
