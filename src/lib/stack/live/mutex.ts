/**
 * Owns mutual exclusion between threads on a word of shared memory: 0 free, 1 held, 2 held and somebody waits.
 */

const SPINS = 200;

export function tryLock(words: Int32Array, index: number): boolean {
  return Atomics.compareExchange(words, index, 0, 1) === 0;
}

/** Blocks the thread until the lock is its own. Never call it while holding a lock that others take the other way round. */
export function lock(words: Int32Array, index: number): void {
  // Locks are held for some microseconds: trying again is cheaper than going to sleep.
  for (let spin = 0; spin < SPINS; spin++) if (tryLock(words, index)) return;
  while (Atomics.exchange(words, index, 2) !== 0) Atomics.wait(words, index, 2);
}

export function unlock(words: Int32Array, index: number): void {
  if (Atomics.exchange(words, index, 0) === 2) Atomics.notify(words, index, 1);
}

/** Runs `work` under the lock. */
export function withLock<Result>(words: Int32Array, index: number, work: () => Result): Result {
  lock(words, index);
  try {
    return work();
  } finally {
    unlock(words, index);
  }
}
