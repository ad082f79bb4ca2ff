/**
 * Proves what happens when any operation of a command on its files fails, whichever it is: the command ends with an error
 * that names the file and the place, or did its work all the same; inputs are as they were, or in a state that the same
 * command completes; an output has its name only if it is whole; nothing stays open.
 */
import { setImmediate } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CowError, type MemoryStorage, type OperationContext, type SparseBytes } from "../../src/lib/index.ts";
import { firstDifference } from "../support/images/pack-images.ts";
import { isExhaustive } from "../support/sample.ts";
import { FAULT_JOBS, type FaultJob, filesFor, makeFiles } from "../support/storage/fault-jobs.ts";
import { type Fault, FaultyStorage, stall, TAKES_SPACE } from "../support/storage/faulty-storage.ts";
import type { Step } from "../support/storage/stepped-storage.ts";
import { unheardDuring } from "../support/unheard.ts";

/** For a machine that does much else. */
const LIMIT_MS = 240_000;
const SECTOR_BYTES = 512;
/** Operations of one job that are made to fail the same way, both ends among them; the rest is much of the same kind. */
const TRIALS_AT_MOST = isExhaustive ? 300 : 50;
/** Of those ways that tell little more. */
const FEW_TRIALS = isExhaustive ? 40 : 12;

interface Kind {
  readonly title: string;
  readonly code: "io" | "no-space";
  readonly trialsAtMost: number;
  readonly concerns: (operation: Step) => boolean;
  /** What becomes of an operation of concern, of the one that is chosen (the first) and of those after it. */
  readonly fault: (operation: Step, isFirst: boolean) => Fault | undefined;
}

const takesSpace = ({ kind }: Step): boolean => TAKES_SPACE.has(kind);
const isWrite = ({ kind }: Step): boolean => kind === "write";

/** Disks tear writes at sectors, and nowhere else. */
function share({ length = 0 }: Step, part: number): number {
  return Math.floor((length * part) / SECTOR_BYTES) * SECTOR_BYTES;
}

const KINDS: readonly Kind[] = [
  {
    title: "EIO, once",
    code: "io",
    trialsAtMost: TRIALS_AT_MOST,
    concerns: () => true,
    fault: (_, isFirst) => (isFirst ? { errno: "EIO" } : undefined),
  },
  {
    title: "EIO in the middle of a write",
    code: "io",
    trialsAtMost: TRIALS_AT_MOST,
    concerns: isWrite,
    fault: (operation, isFirst) => (isFirst ? { errno: "EIO", doneBytes: share(operation, 0.5) } : undefined),
  },
  {
    title: "the device is gone from then on",
    code: "io",
    trialsAtMost: FEW_TRIALS,
    concerns: () => true,
    fault: () => ({ errno: "EIO" }),
  },
  {
    title: "ENOSPC from then on, in the middle of a write",
    code: "no-space",
    trialsAtMost: TRIALS_AT_MOST,
    concerns: takesSpace,
    fault: (operation, isFirst) => ({ errno: "ENOSPC", doneBytes: isFirst ? share(operation, 0.4) : 0 }),
  },
  {
    title: "EDQUOT, once",
    code: "no-space",
    trialsAtMost: FEW_TRIALS,
    concerns: takesSpace,
    fault: (_, isFirst) => (isFirst ? { errno: "EDQUOT" } : undefined),
  },
];

/** What may fail without harm: looking for a journal, or at times. */
const NOT_NEEDED: ReadonlySet<string> = new Set(["facts", "read-small"]);

/** When a note was made differs from run to run. */
function withoutTimes(answer: unknown): unknown {
  return JSON.parse(JSON.stringify(answer), (key, value: unknown) => (key === "recorded_at" ? "then" : value));
}

function contentOf(storage: MemoryStorage, path: string): SparseBytes | undefined {
  return storage.content(path);
}

function difference(a: MemoryStorage, b: MemoryStorage, path: string): string | undefined {
  const [one, other] = [contentOf(a, path), contentOf(b, path)];
  if (!one || !other) return one === other ? undefined : `only one has ${path}`;
  return firstDifference(one, other);
}

/** Files that people know of; notes and journals beside them are the library's own. */
function named(storage: MemoryStorage): string[] {
  return storage.paths().filter((path) => !path.includes(".cowtool-"));
}

/** The name of a message's file may be that of an unpacked copy of it. */
function isAbout(error: CowError, { path }: Step): boolean {
  return error.file === path || path.startsWith(`${error.file}`) || `${error.file}`.startsWith(path);
}

class Trials {
  readonly #job: FaultJob;
  readonly #before: MemoryStorage;
  readonly #whole: MemoryStorage;
  readonly #answer: unknown;
  /** All that it does, in order, when nothing fails. */
  readonly operations: readonly Step[];
  tried = 0;
  refused = 0;

  private constructor(job: FaultJob, before: MemoryStorage, whole: MemoryStorage, answer: unknown, operations: Step[]) {
    this.#job = job;
    this.#before = before;
    this.#whole = whole;
    this.#answer = answer;
    this.operations = operations;
  }

  static async begin(job: FaultJob, files: MemoryStorage): Promise<Trials> {
    const before = await filesFor(job, files);
    const whole = before.clone();
    const operations: Step[] = [];
    const storage = new FaultyStorage(whole, (operation) => void operations.push(operation));
    const answer = await job.run({ storage });
    expect(storage.openCount).toBe(0);
    return new Trials(job, before, whole, answer, operations);
  }

  /** Lets the operation with that number fail. */
  async fail(kind: Kind, chosen: number, unheard: readonly unknown[]): Promise<void> {
    this.tried++;
    const memory = this.#before.clone();
    const storage = new FaultyStorage(memory, (operation, index) =>
      index < chosen || !kind.concerns(operation) ? undefined : kind.fault(operation, index === chosen),
    );
    const notices: string[] = [];
    const context: OperationContext = { storage, onNotice: ({ message }) => void notices.push(message) };
    const outcome = await this.#job.run(context).catch((error: unknown) => error);
    await setImmediate();
    const [failed] = storage.failed;
    const where = `${kind.title}, operation ${chosen}: ${JSON.stringify(failed)}`;
    expect(failed, where).toEqual(this.operations[chosen]);
    if (!failed) return;
    expect(unheard, where).toEqual([]);
    expect(storage.openCount, `${where}: open files`).toBe(0);
    if (outcome instanceof Error) this.#expectRefusal(outcome, storage.failed, kind, where);
    else this.#expectDone(outcome, memory, failed, notices, where);
    this.#expectNothingLost(memory, where);
    await this.#expectCompleted(memory, where);
  }

  #expectRefusal(error: Error, failed: readonly Step[], { code }: Kind, where: string): void {
    this.refused++;
    if (!(error instanceof CowError)) throw new Error(where, { cause: error });
    expect(error.code, `${where}: ${error.message}`).toBe(code);
    const concerned = failed.filter((one) => isAbout(error, one));
    expect(concerned, `${where}: ${error.file}: ${error.message}`).not.toEqual([]);
    if (!concerned.every(({ kind }) => kind === "read" || kind === "write")) return;
    expect(error.message, where).toMatch(/at byte \d+ \(0x[0-9a-f]+\)/);
    expect(
      concerned.map(({ offset }) => offset),
      where,
    ).toContain(error.details["offset"]);
  }

  /** It may do without what it does not need: the note of a base (see docs/base-record.md), a look at a file's times. */
  #expectDone(answer: unknown, memory: MemoryStorage, failed: Step, notices: readonly string[], where: string): void {
    const isOfNote = failed.path.endsWith(".cowtool-base");
    expect(isOfNote || NOT_NEEDED.has(failed.kind), `${where}: done all the same`).toBe(true);
    expect(named(memory), where).toEqual(named(this.#whole));
    for (const path of named(this.#whole))
      expect(difference(memory, this.#whole, path), `${where}: ${path}`).toBeUndefined();
    if (isOfNote && takesSpace(failed)) expect(notices.length, where).toBeGreaterThan(0);
    else if (!isOfNote && failed.kind !== "facts") expect(answer, where).toEqual(this.#answer);
  }

  #expectNothingLost(memory: MemoryStorage, where: string): void {
    const { changes, makes } = this.#job;
    for (const path of named(memory)) {
      if (changes.includes(path)) continue;
      const now = contentOf(memory, path);
      const candidates = [
        contentOf(this.#before, path),
        ...(makes.includes(path) ? [contentOf(this.#whole, path)] : []),
      ];
      const isAllowed = candidates.some((content) => content && now && firstDifference(now, content) === undefined);
      expect(isAllowed, `${where}: ${path} is old or whole`).toBe(true);
    }
    for (const path of named(this.#before)) expect(named(memory), `${where}: ${path} is there`).toContain(path);
  }

  async #expectCompleted(memory: MemoryStorage, where: string): Promise<void> {
    const isThere = this.#job.makes.some((path) => contentOf(memory, path) && !contentOf(this.#before, path));
    const run = isThere && this.#job.again ? this.#job.again : this.#job.run;
    try {
      await run({ storage: memory });
    } catch (error) {
      throw new Error(`${where}: run again`, { cause: error });
    }
    expect(named(memory), `${where}: run again`).toEqual(named(this.#whole));
    for (const path of named(this.#whole))
      expect(difference(memory, this.#whole, path), `${where}: run again: ${path}`).toBeUndefined();
    const left = memory.paths().filter((path) => /cowtool-(?:merge|live)/.test(path));
    expect(left, `${where}: left over`).toEqual([]);
  }
}

/** Both ends and a share of the middle, where there are very many. */
function someOf(numbers: readonly number[], most: number): readonly number[] {
  if (numbers.length <= most) return numbers;
  const ends = Math.floor(most / 3);
  const step = Math.ceil((numbers.length - 2 * ends) / ends);
  return numbers.filter((_, i) => i < ends || i >= numbers.length - ends || i % step === 0);
}

let files: MemoryStorage;
let sum = 0;
beforeAll(async () => {
  files = await makeFiles();
});
afterAll(() => void process.stderr.write(`operations made to fail: ${sum}\n`));

describe.each(FAULT_JOBS)("$title", { timeout: LIMIT_MS }, (job) => {
  test("whatever fails: refused with file and place, nothing lost, completed when run again", async () => {
    const trials = await Trials.begin(job, files);
    const unheard = await unheardDuring(async (heard) => {
      for (const kind of KINDS) {
        const numbers = [...trials.operations.keys()].filter((i) => kind.concerns(trials.operations[i] as Step));
        for (const chosen of someOf(numbers, kind.trialsAtMost)) {
          await trials.fail(kind, chosen, heard);
          sum++;
        }
      }
    });
    expect(unheard).toEqual([]);
    expect(trials.refused).toBeGreaterThan(trials.tried / 3);
  });

  test("a slow device gives the same", async () => {
    const before = await filesFor(job, files);
    const [memory, whole] = [before.clone(), before.clone()];
    const expected = await job.run({ storage: whole });
    const storage = new FaultyStorage(memory, (_, index) => {
      if (index % 5 === 0) stall(2);
      return undefined;
    });
    expect(withoutTimes(await job.run({ storage }))).toEqual(withoutTimes(expected));
    for (const path of named(whole)) expect(difference(memory, whole, path), path).toBeUndefined();
  });
});
