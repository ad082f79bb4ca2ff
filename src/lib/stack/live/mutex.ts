/**
 * Owns mutual exclusion between threads on a word of shared memory: 0 free, 1 locked, 2 locked and awaited.
 */

const SPINS = 200;

export function tryLock(words: Int32Array, index: number): boolean {
  return Atomics.compareExchange(words, index, 0, 1) === 0;
}

/** Blocks until this thread has the lock. Never call it while holding a lock that others take in the other order. */
export function lock(words: Int32Array, index: number): void {
  // Locks are held for some microseconds: trying again is cheaper than sleeping.
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
