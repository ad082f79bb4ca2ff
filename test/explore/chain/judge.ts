/**
 * Owns the judgement of what a crash left of disks with checkpoints: each opens by itself, as a server opens it, and reads as
 * the model says, and so do its checkpoints; no stack file is in doubt any more, and nothing empty is left over.
 */
import { basename, dirname } from "node:path";
import { journalPath } from "../../../src/lib/formats/cowfile/live/journal.ts";
import { openStack, type Storage } from "../../../src/lib/index.ts";
import { ServedStack } from "../../../src/lib/stack/live/served-stack.ts";
import { LowerStacks } from "../../../src/lib/stack/live/shared-lower.ts";
import { StackSpec } from "../../../src/lib/stack/spec.ts";
import type { Files, Random } from "../disk.ts";
import { RawCowfile } from "../foreign.ts";
import { LookStorage } from "../look-storage.ts";
import type { Fate } from "../oracle.ts";
import { Violation } from "../violation.ts";
import { readWindows } from "../world.ts";
import type { ChainWorld } from "./chain-world.ts";
import { firstDifference, type Model, type Seen } from "./model.ts";

const MOST_DISKS = 100;
const JOURNAL_SUFFIX = journalPath("");

export interface State {
  readonly fate: Fate;
  readonly files: Files;
  readonly boot: Uint8Array;
  /** What it may be, the likeliest first. */
  readonly models: readonly Model[];
  /** A stack file that an operation is making: it counts once the operation is done. */
  readonly makes: string | undefined;
  /** No stack file is being changed: it is enough to look at one of the disks. */
  readonly isQuiet: boolean;
}

/** @returns the number of the model that it is as, and what was seen @throws Violation */
export async function judge(
  { fate, files, boot, models, makes, isQuiet }: State,
  world: ChainWorld,
  next: Random,
): Promise<{ readonly model: Model; readonly seen: ReadonlyMap<string, Seen> }> {
  const storage = new LookStorage(files, undefined, (path) => !path.endsWith(JOURNAL_SUFFIX));
  const stackFiles = [...files.keys()].filter((path) => path.endsWith(".stack"));
  const disks = stackFiles.filter((path) => path !== makes || isWhole(storage, path, stackFiles));
  const seen = new Map<string, Seen>();
  // In any order: which one decided about a checkpoint of several is not known to who opens them.
  const start = Math.floor(next() * disks.length);
  const lowers = next() < 0.5 ? new LowerStacks(storage) : undefined;
  const turned = [...disks.slice(start), ...disks.slice(0, start)].slice(0, isQuiet ? 1 : MOST_DISKS);
  try {
    const images = new Map<string, Buffer>();
    for (const disk of turned) images.set(disk, await open(storage, disk, boot, lowers, world));
    for (const disk of turned)
      seen.set(disk, {
        image: images.get(disk) ?? Buffer.alloc(0),
        checkpoints: await readCheckpoints(storage, disk, world),
      });
  } catch (error) {
    throw new Violation(`${fate}: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
  if (!isQuiet && !process.env["NOLEFT"]) refuseLeftOvers(storage, stackFiles, fate);
  const differences: string[] = [];
  for (const model of models) {
    const difference = sameNames(disks, model) ?? firstDifference(model, seen, fate);
    if (difference === undefined) return { model, seen };
    differences.push(difference);
  }
  throw new Violation(`${fate}: ${differences.join("; and not after it: ")}`);
}

/** Is a stack file that is being made whole, with a top that no other one has? */
function isWhole(storage: LookStorage, path: string, stackFiles: readonly string[]): boolean {
  const topOf = (file: string): string => StackSpec.parse(storage, `stack:${file}`).top.path;
  const top = topOf(path);
  return storage.content(top) !== undefined && stackFiles.every((other) => other === path || topOf(other) !== top);
}

function sameNames(disks: readonly string[], model: Model): string | undefined {
  const found = [...disks].sort().join(" ");
  return found === [...model.keys()].sort().join(" ") ? undefined : `there are the disks ${found}`;
}

async function open(
  storage: Storage,
  disk: string,
  boot: Uint8Array,
  lowers: LowerStacks | undefined,
  { windows }: ChainWorld,
): Promise<Buffer> {
  const stack = await ServedStack.open(storage, `stack:${disk}`, { access: "writable", boot, lowers });
  try {
    return readWindows(stack.image(), windows);
  } finally {
    stack.abandon();
  }
}

async function readCheckpoints(storage: Storage, disk: string, { windows }: ChainWorld): Promise<Map<string, Buffer>> {
  const spec = StackSpec.parse(storage, `stack:${disk}`);
  if ("pending" in (spec.stackFile?.document ?? {})) throw new Violation(`${disk} is still in doubt`);
  const found = new Map<string, Buffer>();
  for (const [i, { listed }] of spec.layers.entries()) {
    if (!listed?.checkpoint) continue;
    const stack = await openStack(storage, spec.lower(i + 1));
    const bytes = Buffer.alloc((windows[0].count + windows[0].fromSector) * 512);
    stack.device.read(bytes, 0);
    found.set(listed.checkpoint.name, bytes);
    stack.close();
  }
  return found;
}

/** A cowfile that no stack file names holds something: an empty one was to go. */
function refuseLeftOvers(storage: LookStorage, disks: readonly string[], fate: Fate): void {
  const named = new Set<string>();
  for (const disk of disks) for (const file of StackSpec.parse(storage, `stack:${disk}`).files) named.add(file);
  for (const path of storage.paths()) {
    if (!path.endsWith(".cow") || named.has(path)) continue;
    const content = storage.content(path);
    if (!content) continue;
    const raw = new RawCowfile(content);
    if (!raw.isDirty && raw.count() === 0 && raw.unmarked().size === 0)
      throw new Violation(`${fate}: ${basename(path)} in ${dirname(path)} is left over, and empty`);
  }
}
