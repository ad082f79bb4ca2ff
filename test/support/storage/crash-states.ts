/**
 * Owns the states in which a kill or a power cut may leave files that a job changes: one before each of its changes, and
 * there some choices of what was not flushed. Works on MemoryStorage; knows no jobs.
 */
import type { MemoryStorage } from "../../../src/lib/index.ts";
import { random } from "../random.ts";

export interface CrashState {
  /** How it came about, with the seed of a power cut. */
  readonly name: string;
  readonly storage: MemoryStorage;
}

/**
 * Every state in which a kill at any change may leave the storage, which has all that was done; and `powerCuts` in which a
 * power cut may: the first without anything that was not flushed, the others with a random share of that. The job runs
 * once, and is looked at before each of its changes.
 */
export async function* crashStates(
  initial: MemoryStorage,
  work: (storage: MemoryStorage) => Promise<unknown>,
  powerCuts: number,
): AsyncGenerator<CrashState> {
  const states: CrashState[] = [];
  const storage = initial.clone();
  storage.onChange = (_change, limit) => {
    states.push({ name: `killed before change ${limit}`, storage: storage.clone() });
    for (let seed = 0; seed < powerCuts; seed++) {
      const next = random(limit * 1000 + seed);
      const share = seed === 0 ? 0 : next();
      const cut = storage.powerCut(initial, () => next() < share);
      states.push({ name: `power cut before change ${limit}, seed ${seed}`, storage: cut });
    }
  };
  await work(storage);
  yield* states;
}
