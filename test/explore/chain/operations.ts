/**
 * Owns the commands on stack files that a life of chains tries, and what each makes of the model.
 */
import { dirname, join } from "node:path";
import type { OperationContext } from "../../../src/lib/index.ts";
import { checkpoint } from "../../../src/lib/operations/history/checkpoint.ts";
import { drop } from "../../../src/lib/operations/history/drop.ts";
import { fork } from "../../../src/lib/operations/history/fork.ts";
import { rollback } from "../../../src/lib/operations/history/rollback.ts";
import { squashChain } from "../../../src/lib/operations/history/squash-chain.ts";
import { checkpointNames } from "../../../src/lib/stack/chain.ts";
import type { StackDocument } from "../../../src/lib/stack/stack-document.ts";
import type { Random } from "../disk.ts";
import type { Oracle } from "../oracle.ts";
import { pick } from "../world.ts";
import type { DiskModel, Model } from "./model.ts";

/** What leads from one model to another. */
export interface Transition {
  /** The file whose new name decides. */
  readonly decidedBy: string;
  /** Is that document the new one? Undefined where the name says it. */
  readonly isDone?: (document: StackDocument) => boolean;
  /** Called at the instant: what there is from now on. */
  readonly after: (before: Model) => Model;
}

export interface Operation {
  readonly what: string;
  /** Undefined where the model stays the same. */
  readonly transition?: Transition;
  /** A stack file that counts once all is done: until then the same call completes it. */
  readonly makes?: string;
  readonly run: (context: OperationContext) => Promise<unknown>;
}

/** The model with another one of a disk. */
function withDisk(model: Model, disk: string, changed: DiskModel): Model {
  return new Map([...model, [disk, changed]]);
}

function diskIn(model: Model, disk: string): DiskModel {
  const found = model.get(disk);
  if (!found) throw new Error(`there is no ${disk}`);
  return found;
}

/** With one more checkpoint, of what the image reads as now. */
export function withCheckpoint(model: Model, disk: string, name: string): Model {
  const { image, checkpoints } = diskIn(model, disk);
  return withDisk(model, disk, { image, checkpoints: new Map([...checkpoints, [name, image.snapshot()]]) });
}

const MOST_DISKS = 4;
const MOST_CHECKPOINTS = 5;

export function chooseOperation(model: Model, next: Random, takeName: () => number): Operation {
  const disk = pick(next, [...model.keys()]);
  const { checkpoints } = diskIn(model, disk);
  const names = [...checkpoints.keys()];
  const name = names.length > 0 ? pick(next, names) : undefined;
  const chance = next();
  if (name === undefined || (chance < 0.3 && names.length < MOST_CHECKPOINTS))
    return makeCheckpoint(disk, `c${takeName()}`);
  if (chance < 0.5) return rollBack(disk, name, names, next, takeName);
  if (chance < 0.65 && model.size < MOST_DISKS) return forkAt(disk, name, `f${takeName()}`);
  if (chance < 0.85) return squashUnnamed(disk);
  return chance < 0.92 ? squashUpTo(disk, name, names) : dropName(disk, name);
}

function makeCheckpoint(disk: string, as: string): Operation {
  return {
    what: `checkpoint ${disk} --as ${as}`,
    transition: {
      decidedBy: disk,
      isDone: (document) => checkpointNames(document).includes(as),
      after: (before) => withCheckpoint(before, disk, as),
    },
    run: (context) => checkpoint(disk, { as }, context),
  };
}

function upTo(checkpoints: ReadonlyMap<string, Oracle>, name: string): Map<string, Oracle> {
  const all = [...checkpoints];
  return new Map(all.slice(0, all.findIndex(([each]) => each === name) + 1));
}

function rollBack(
  disk: string,
  name: string,
  names: readonly string[],
  next: Random,
  takeName: () => number,
): Operation {
  const keep = next() < 0.4 ? join(dirname(disk), `k${takeName()}.stack`) : undefined;
  let topBefore: string | undefined;
  const later = names.slice(names.indexOf(name) + 1);
  return {
    what: `rollback ${disk} ${name}${keep === undefined ? "" : ` --keep ${keep}`}`,
    transition: {
      decidedBy: disk,
      isDone: (document) => {
        const top = document.layers.at(-1)?.file;
        const below = document.layers.at(-2)?.checkpoint?.name;
        topBefore ??= top;
        return top !== topBefore && below === name;
      },
      after: (before) => {
        const { image, checkpoints } = diskIn(before, disk);
        const at = checkpoints.get(name);
        if (!at) throw new Error(`there is no ${name}`);
        const back = withDisk(before, disk, { image: at.snapshot(), checkpoints: upTo(checkpoints, name) });
        return keep === undefined ? back : withDisk(back, keep, { image: image.snapshot(), checkpoints });
      },
    },
    ...(keep !== undefined && { makes: keep }),
    run: (context) => rollback(disk, { checkpoint: name, keep, discard: later.length > 0 }, context),
  };
}

function forkAt(disk: string, name: string, as: string): Operation {
  const output = join(dirname(disk), `${as}.stack`);
  return {
    what: `fork ${disk}@${name} ${output}`,
    transition: {
      decidedBy: join(dirname(disk), `${as}.cow`),
      after: (before) => {
        const { checkpoints } = diskIn(before, disk);
        const at = checkpoints.get(name);
        if (!at) throw new Error(`there is no ${name}`);
        return withDisk(before, output, { image: at.snapshot(), checkpoints: upTo(checkpoints, name) });
      },
    },
    makes: output,
    run: (context) => fork(disk, { output, checkpoint: name }, context),
  };
}

function squashUnnamed(disk: string): Operation {
  return { what: `squash ${disk}`, run: (context) => squashChain(disk, {}, context) };
}

function squashUpTo(disk: string, to: string, names: readonly string[]): Operation {
  const lost = names.slice(0, names.indexOf(to));
  return {
    what: `squash ${disk} ..${to}`,
    ...(lost.length > 0 && {
      transition: {
        decidedBy: disk,
        isDone: (document: StackDocument) => !checkpointNames(document).includes(lost[0] ?? ""),
        after: (before: Model) => {
          const { image, checkpoints } = diskIn(before, disk);
          const rest = [...checkpoints].filter(([name]) => !lost.includes(name));
          return withDisk(before, disk, { image, checkpoints: new Map(rest) });
        },
      },
    }),
    run: (context) => squashChain(disk, { range: { to } }, context),
  };
}

function dropName(disk: string, name: string): Operation {
  return {
    what: `drop ${disk} ${name}`,
    transition: {
      decidedBy: disk,
      isDone: (document) => !checkpointNames(document).includes(name),
      after: (before) => {
        const { image, checkpoints } = diskIn(before, disk);
        return withDisk(before, disk, {
          image,
          checkpoints: new Map([...checkpoints].filter(([each]) => each !== name)),
        });
      },
    },
    run: (context) => drop(disk, name, context),
  };
}
