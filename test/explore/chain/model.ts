/**
 * Owns what disks with checkpoints may read as: for each the oracle of its image, and one for each of its checkpoints, as it was
 * at its instant. An operation on chains leads from one such model to another, at one change of one file.
 */
import type { Fate, Oracle } from "../oracle.ts";

export interface DiskModel {
  readonly image: Oracle;
  /** By name, the oldest first. */
  readonly checkpoints: ReadonlyMap<string, Oracle>;
}

/** By stack file. */
export type Model = ReadonlyMap<string, DiskModel>;

/** What was found in a state. */
export interface Seen {
  readonly image: Buffer;
  readonly checkpoints: ReadonlyMap<string, Buffer>;
}

/** As it is now, whatever becomes of the oracles. */
export function snapshotOf(model: Model): Model {
  return new Map(
    [...model].map(([disk, { image, checkpoints }]) => [
      disk,
      {
        image: image.snapshot(),
        checkpoints: new Map([...checkpoints].map(([name, oracle]) => [name, oracle.snapshot()])),
      },
    ]),
  );
}

/** Another number if any oracle says something else. */
export function versionOf(model: Model): number {
  let sum = 0;
  for (const { image, checkpoints } of model.values()) {
    sum += image.version;
    for (const oracle of checkpoints.values()) sum += oracle.version;
  }
  return sum;
}

/** What of that which was seen is not as a model says, in words; undefined if all is. */
export function firstDifference(model: Model, seen: ReadonlyMap<string, Seen>, fate: Fate): string | undefined {
  for (const [disk, { image, checkpoints }] of model) {
    const found = seen.get(disk);
    if (!found) continue;
    const names = [...found.checkpoints.keys()].join(" ");
    if (names !== [...checkpoints.keys()].join(" "))
      return `${disk} has the checkpoints (${names}), not (${[...checkpoints.keys()].join(" ")})`;
    const wrong = wordsOf(disk, image, found.image, fate);
    if (wrong !== undefined) return wrong;
    for (const [name, oracle] of checkpoints) {
      const bytes = found.checkpoints.get(name);
      const differs = bytes && wordsOf(`${disk}@${name}`, oracle, bytes, fate);
      if (differs !== undefined) return differs;
    }
  }
  return undefined;
}

function wordsOf(name: string, oracle: Oracle, bytes: Buffer, fate: Fate): string | undefined {
  const wrong = oracle.firstWrong(bytes, fate);
  return wrong === undefined ? undefined : `${name}: sector ${wrong} ${oracle.explain(wrong, bytes)}`;
}

/** What was found is what is there from now on. */
export function settle(model: Model, seen: ReadonlyMap<string, Seen>, fate: Fate): void {
  for (const [disk, { image, checkpoints }] of model) {
    const found = seen.get(disk);
    if (!found) throw new Error(`${disk} was not found`);
    image.settle(found.image, fate);
    for (const [name, oracle] of checkpoints) oracle.settle(found.checkpoints.get(name) ?? Buffer.alloc(0), fate);
  }
}
