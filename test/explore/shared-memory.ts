/**
 * Owns the seam at the memory that the explored threads share: while it is there, a thread stops before each operation of
 * Atomics on that memory, so that another one may run; and where it would wait, that is told instead.
 */

export interface MemoryWatch {
  /** Is this memory of the threads that are explored? */
  readonly isShared: (memory: ArrayBufferLike) => boolean;
  /** The thread that is at work. */
  readonly thread: () => unknown;
  /** A thread is about to read or change shared memory. */
  readonly step: () => void;
  /** A thread would sleep until a lock is free: lets go of one, or throws. */
  readonly sleep: () => void;
  /** A thread reads the same word again and again, which no one who could run will change: throws. */
  readonly spin: () => void;
}

const OPERATIONS = ["load", "store", "add", "sub", "exchange", "compareExchange"] as const;
/** So often is a word read in vain before that counts as waiting for a thread that is stopped. */
const SPINS_AT_MOST = 1000;

type Operation = (memory: Int32Array, index: number, ...values: readonly number[]) => number;

/** @returns puts things back */
export function watchMemory(watch: MemoryWatch): () => void {
  const originals = new Map<string, unknown>();
  const replace = (name: (typeof OPERATIONS)[number] | "wait" | "waitAsync" | "notify", replacement: unknown): void => {
    originals.set(name, Atomics[name]);
    Object.defineProperty(Atomics, name, { configurable: true, writable: true, value: replacement });
  };
  let last:
    | { readonly at: unknown; readonly memory: Int32Array; readonly index: number; readonly seen: number }
    | undefined;
  let times = 0;
  for (const name of OPERATIONS) {
    const original = Atomics[name] as Operation;
    replace(name, ((memory, index, ...values) => {
      if (!watch.isShared(memory.buffer)) return original(memory, index, ...values);
      const at = watch.thread();
      const isAgain = last?.at === at && last?.memory === memory && last.index === index;
      // What was just found to be so has not changed, unless another thread was let in: once is enough.
      if (!isAgain) watch.step();
      const seen = original(memory, index, ...values);
      const isInVain = name === "load" || (name === "compareExchange" && seen !== values[0]);
      times = isAgain && isInVain && last?.seen === seen ? times + 1 : 0;
      if (times > SPINS_AT_MOST) watch.spin();
      last = isInVain ? { at, memory, index, seen } : undefined;
      return seen;
    }) satisfies Operation);
  }
  const load = originals.get("load") as Operation;
  replace("wait", (memory: Int32Array, index: number, value: number) => {
    if (load(memory, index) === value) watch.sleep();
    return "not-equal";
  });
  // Who waits without blocking goes on in a turn of its own, and in the same one every time.
  const waiting: { readonly memory: Int32Array; readonly index: number; readonly resolve: (how: string) => void }[] =
    [];
  replace("waitAsync", (memory: Int32Array, index: number, value: number) => {
    if (load(memory, index) !== value) return { async: false, value: "not-equal" };
    return {
      async: true,
      value: new Promise((resolve) => {
        waiting.push({ memory, index, resolve });
      }),
    };
  });
  replace("notify", (memory: Int32Array, index: number) => {
    const isWoken = (each: (typeof waiting)[number]): boolean =>
      each.memory.buffer === memory.buffer && each.index === index;
    const woken = waiting.filter(isWoken);
    for (const each of woken) {
      waiting.splice(waiting.indexOf(each), 1);
      each.resolve("ok");
    }
    return woken.length;
  });
  return () => {
    for (const [name, value] of originals)
      Object.defineProperty(Atomics, name, { configurable: true, writable: true, value });
  };
}
