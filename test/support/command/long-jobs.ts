/**
 * Owns the jobs that tests interrupt: the same work on the same images, how to tell that it is under way, and what must
 * hold of the files afterwards. Must not know how a job is interrupted.
 */
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { type LargeImages, makeDirtyCowfile, makeLargeImages } from "../images/large-images.ts";
import { copyImage, scratchDirectory } from "../scratch.ts";
import { type Ran, run } from "./harness.ts";
import { finish } from "./real-process.ts";

/** The files of one round. */
export interface Round {
  readonly dir: string;
  readonly at: (name: string) => string;
  /** When each input that is no result was last written. */
  readonly writtenMs: ReadonlyMap<string, number>;
}

export interface LongJob {
  readonly title: string;
  readonly argv: (at: Round["at"]) => readonly string[];
  /** What its progress says while it works. */
  readonly phases: readonly string[];
  /** The files that it changes or makes, by name. */
  readonly results: readonly string[];
  /** Those of them that appear whole, or not at all. */
  readonly appears: readonly string[];
  /** Run again after it had completed, it refuses to replace its result. */
  readonly refusesTwice: boolean;
}

export const LONG_JOBS: readonly LongJob[] = [
  {
    title: "merge in place",
    argv: (at) => ["merge", at("large.img"), at("large.cow"), "-y"],
    phases: ["merging"],
    results: ["large.img"],
    appears: [],
    refusesTwice: false,
  },
  {
    title: "merge --undo",
    argv: (at) => ["merge", at("large.img"), at("large.cow"), "-y", "--undo", at("undo.cow")],
    phases: ["saving what will be overwritten", "merging"],
    results: ["large.img", "undo.cow"],
    appears: ["undo.cow"],
    refusesTwice: false,
  },
  {
    title: "merge -o",
    argv: (at) => ["merge", at("large.img"), at("large.cow"), "-o", at("new.img")],
    phases: ["merging"],
    results: ["new.img"],
    appears: ["new.img"],
    refusesTwice: true,
  },
  {
    title: "create --from",
    argv: (at) => ["create", at("large.img"), at("new.cow"), "--from", at("large.merged")],
    phases: ["comparing"],
    results: ["new.cow"],
    appears: ["new.cow"],
    refusesTwice: true,
  },
  {
    title: "convert",
    argv: (at) => ["convert", `${at("large.img")},${at("large.cow")}`, at("new.img"), "--to", "raw"],
    phases: ["converting"],
    results: ["new.img"],
    appears: ["new.img"],
    refusesTwice: true,
  },
  {
    title: "repair",
    argv: (at) => ["repair", at("dirty.cow")],
    phases: ["scanning"],
    results: ["dirty.cow"],
    appears: [],
    refusesTwice: false,
  },
];

const INPUTS = ["large.img", "large.cow", "large.merged", "dirty.cow"];

/**
 * What a killed process cannot take with it: unfinished files, and without system calls its lock files. And what `create`
 * notes of the base, and `convert` of how far it got, if it was killed when it was done.
 */
const LITTER = /^\..*\.tmp$|\.cowtool-lock\.\d+-[0-9a-f]+$|\.cowtool-base$|\.cowtool-partial-note$/;

const PIECE_BYTES = 1 << 20;

function sameContent(a: string, b: string): boolean {
  if (statSync(a).size !== statSync(b).size) return false;
  const [left, right] = [openSync(a, "r"), openSync(b, "r")];
  const [x, y] = [Buffer.allocUnsafe(PIECE_BYTES), Buffer.allocUnsafe(PIECE_BYTES)];
  try {
    for (;;) {
      const [m, n] = [readSync(left, x), readSync(right, y)];
      if (Buffer.compare(x.subarray(0, m), y.subarray(0, n)) !== 0) return false;
      if (m === 0) return true;
    }
  } finally {
    closeSync(left);
    closeSync(right);
  }
}

/** What shows nothing more as a process runs in this one. */
function runHere([name = "", ...argv]: readonly string[]): Promise<Ran> {
  return run(name, argv);
}

/** What a job does when nobody disturbs it. */
export interface Reference {
  readonly ms: number;
  /** The path of each result, by name. */
  readonly at: Round["at"];
}

/** The images and rounds of one test file. */
export class LongJobBench {
  readonly #at = scratchDirectory();
  readonly #references = new Map<string, Reference>();
  #count = 0;
  #images: LargeImages | undefined;

  /** Surveys are faster than copies: the cowfile to be repaired has a size of its own. */
  async make({ mebibytes, dirtyMebibytes }: { mebibytes: number; dirtyMebibytes: number }): Promise<void> {
    this.#images = await makeLargeImages(this.#at, mebibytes);
    await makeDirtyCowfile(this.#at, "dirty.cow", dirtyMebibytes);
  }

  /** How many blocks a merge writes. */
  get heldBlocks(): number {
    return this.#images?.held ?? 0;
  }

  /** A folder with fresh copies of those inputs that the job takes. */
  newRound(job: LongJob): Round {
    const dir = this.#at(`round-${this.#count++}`);
    mkdirSync(dir);
    const at = (name: string): string => join(dir, name);
    const named = job.argv((name) => name);
    const inputs = INPUTS.filter((name) => named.some((word) => word.split(",").includes(name)));
    for (const name of inputs) copyImage(this.#at(name), at(name));
    const readOnly = inputs.filter((name) => !job.results.includes(name));
    return { dir, at, writtenMs: new Map(readOnly.map((name) => [name, statSync(at(name)).mtimeMs])) };
  }

  /** The undisturbed run, once a job. */
  async reference(job: LongJob): Promise<Reference> {
    const known = this.#references.get(job.title);
    if (known) return known;
    const { at } = this.newRound(job);
    const ran = await finish(job.argv(at));
    expect(ran.status, ran.stderr).toBe(0);
    for (const name of job.results)
      if (name.endsWith(".img")) expect(sameContent(at(name), this.#at("large.merged"))).toBe(true);
    const reference = { ms: ran.ms, at };
    this.#references.set(job.title, reference);
    return reference;
  }

  /** Is every output that has its final name the whole one, and was nothing written that is no result? */
  async expectWhole(job: LongJob, { at, writtenMs }: Round): Promise<void> {
    const reference = await this.reference(job);
    for (const name of job.appears)
      if (existsSync(at(name))) expect(sameContent(at(name), reference.at(name)), `${name} is whole`).toBe(true);
    for (const [name, ms] of writtenMs) expect(statSync(at(name)).mtimeMs, `${name} is untouched`).toBe(ms);
  }

  /**
   * Runs the job again, and expects it to complete: every result as if nothing had happened, no journal left.
   *
   * @param env it is a process again, with these variables; without them it runs in this one
   */
  async expectCompletion(job: LongJob, round: Round, env?: Readonly<Record<string, string>>): Promise<void> {
    const reference = await this.reference(job);
    const isDone = job.refusesTwice && job.appears.every((name) => existsSync(round.at(name)));
    const ran = env ? await finish(job.argv(round.at), { env }) : await runHere(job.argv(round.at));
    expect(ran.status, ran.stderr).toBe(isDone ? 8 : 0);
    for (const name of job.results)
      expect(sameContent(round.at(name), reference.at(name)), `${name} is complete`).toBe(true);
    await this.expectWhole(job, round);
    const surplus = readdirSync(round.dir).filter((name) => ![...INPUTS, ...job.results].includes(name));
    expect(surplus.filter((name) => !LITTER.test(name))).toEqual([]);
  }

  /** Merges the undo file, and expects the base to be as it was before everything. */
  async expectUndone({ at }: Round): Promise<void> {
    const ran = await runHere(["merge", at("large.img"), at("undo.cow"), "-y"]);
    expect(ran.status, ran.stderr).toBe(0);
    expect(sameContent(at("large.img"), this.#at("large.img")), "the base is as before").toBe(true);
  }

  forget({ dir }: Round): void {
    rmSync(dir, { recursive: true });
  }
}
