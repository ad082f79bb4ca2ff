/**
 * Owns the states in which a kill or a power cut may leave files that a job changes: one before each of its changes, and
 * there some choices of what was not flushed. Works on MemoryStorage; knows no jobs.
 */
import type { MemoryStorage } from "../../../src/lib/index.ts";
import { random } from "../random.ts";

class Killed extends Error {}

export interface CrashState {
  /** How it came about, with the seed of a power cut. */
  readonly name: string;
  readonly storage: MemoryStorage;
}

/** Runs `work` on a copy of `initial` until just before its change number `limit`. */
async function runUntil(initial: MemoryStorage, limit: number, work: (storage: MemoryStorage) => Promise<unknown>) {
  const storage = initial.clone();
  storage.onChange = (_change, index) => {
    if (index >= limit) throw new Killed();
  };
  let isKilled = false;
  try {
    await work(storage);
  } catch (error) {
    if (!(error instanceof Killed)) throw error;
    isKilled = true;
  }
  storage.onChange = () => undefined;
  return { storage, isKilled };
}

/**
 * Every state in which a kill at any change may leave the storage, which has all that was done; and `powerCuts` in which a
 * power cut may: the first without anything that was not flushed, the others with a random share of that.
 */
export async function* crashStates(
  initial: MemoryStorage,
  work: (storage: MemoryStorage) => Promise<unknown>,
  powerCuts: number,
): AsyncGenerator<CrashState> {
  for (let limit = 0; ; limit++) {
    const { storage, isKilled } = await runUntil(initial, limit, work);
    if (!isKilled) return;
    yield { name: `killed before change ${limit}`, storage: storage.clone() };
    for (let seed = 0; seed < powerCuts; seed++) {
      const next = random(limit * 1000 + seed);
      const share = seed === 0 ? 0 : next();
      yield {
        name: `power cut before change ${limit}, seed ${seed}`,
        storage: storage.powerCut(initial, () => next() < share),
      };
    }
  }
}
