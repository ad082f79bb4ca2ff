/**
 * Owns the commands on stack files that a life of chains tries, and what each makes of the model.
 */
import type { Storage } from "../../../src/lib/index.ts";
import type { Random } from "../disk.ts";
import type { Transition } from "./chain-witness.ts";
import type { Model } from "./model.ts";

export interface Operation extends Transition {
  readonly what: string;
  readonly run: (storage: Storage) => Promise<unknown>;
}

export function chooseOperation(model: Model, next: Random, takeName: () => number): Operation | undefined {
  void model; void next; void takeName;
  return undefined;
}
