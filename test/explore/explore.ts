/**
 * Owns an exploration: life after life from a seed, until there were enough states or the time is up.
 */
import { ChainLife } from "./chain/chain-life.ts";
import { Life } from "./life.ts";
import { Violation } from "./violation.ts";

export interface ExploreOptions {
  /** Of the first life; the others have the numbers after it. */
  readonly seed: number;
  /** How far it is from one life's seed to the next: that many processes can share the seeds. */
  readonly stride?: number;
  readonly lives?: number;
  /** Lives of disks with checkpoints, instead of lives of a cowfile. */
  readonly chains?: boolean;
  readonly states?: number;
  readonly milliseconds?: number;
  /** Stop at the first failure. */
  readonly untilFailure?: boolean;
  readonly onTrace?: (line: string) => void;
  readonly onProgress?: (explored: Explored) => void;
}

export interface Explored {
  lives: number;
  states: number;
  /** What was wrong, one line for a life, and how to see it again. */
  readonly failures: string[];
}

export async function explore(options: ExploreOptions): Promise<Explored> {
  const { seed, stride = 1, lives = Number.POSITIVE_INFINITY, onTrace } = options;
  const { states = Number.POSITIVE_INFINITY, milliseconds = Number.POSITIVE_INFINITY } = options;
  const explored: Explored = { lives: 0, states: 0, failures: [] };
  const kind = options.chains ? ChainLife : Life;
  const begun = performance.now();
  while (explored.lives < lives && explored.states < states && performance.now() - begun < milliseconds) {
    const life = await kind.begin({ seed: seed + explored.lives * stride, ...(onTrace ? { onTrace } : {}) });
    try {
      await life.run();
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      explored.failures.push(error.message);
    }
    explored.lives++;
    explored.states += life.witness.states;
    options.onProgress?.(explored);
    if (options.untilFailure && explored.failures.length > 0) break;
  }
  return explored;
}
