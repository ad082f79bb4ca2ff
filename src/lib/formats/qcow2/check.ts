/**
 * Owns `check` of a qcow2 file: walks all references to clusters, and compares them with the reference counts. Reads
 * only tables, changes nothing, and keeps no more than a window of counts and a bounded list of findings.
 */
import type { ByteSource } from "../../bytes/byte-source.ts";
import { ExtentList } from "../../bytes/extent.ts";
import { interrupted, makeYielder } from "../../context.ts";
import { atByte } from "../../errors.ts";
import type { CheckOptions, CheckReport, Problem, ProblemTally } from "../format.ts";
import { headerProblems } from "./describe.ts";
import { hasIncompatible, type Qcow2Header, readHeader } from "./header.ts";
import { INCOMPATIBLE } from "./layout.ts";
import { type Qcow2ProblemId, qcow2Problem } from "./problems.ts";
import { Refcounts } from "./refcounts.ts";
import { type Reference, ReferenceWalk } from "./references.ts";
import { USE, UsageCounts, WINDOW_CLUSTERS } from "./usage-counts.ts";

/** This many findings of one kind are kept; the rest is counted. */
const MOST_OF_A_KIND = 10_000;

export async function checkQcow2(source: ByteSource, options: CheckOptions): Promise<CheckReport> {
  const header = readHeader(source);
  const findings = new Findings();
  for (const problem of headerProblems(header)) findings.add(problem);
  // Without the right key or file the tables have another meaning.
  if (header.cryptMethod === 0 && !hasIncompatible(header, INCOMPATIBLE.externalData))
    await new Check(source, header, findings, options).run();
  const problems = [...findings.all()];
  const worst: ProblemTally = {
    fixable: 0,
    unfixable: problems.filter(({ severity }) => severity !== "note").length,
    notes: problems.filter(({ severity }) => severity === "note").length,
  };
  return { state: markedState(header), problems, worst };
}

/** Version 2 has no such flags. */
function markedState(header: Qcow2Header): CheckReport["state"] {
  if (header.version === 2) return undefined;
  return hasIncompatible(header, INCOMPATIBLE.dirty) || hasIncompatible(header, INCOMPATIBLE.corrupt)
    ? "dirty"
    : "clean";
}

/** A bounded list of findings. */
class Findings {
  readonly #kept: Problem[] = [];
  readonly #counts = new Map<string, number>();

  add(problem: Problem): void {
    const count = (this.#counts.get(problem.id) ?? 0) + 1;
    this.#counts.set(problem.id, count);
    if (count <= MOST_OF_A_KIND) this.#kept.push(problem);
  }

  *all(): Generator<Problem> {
    yield* this.#kept;
    for (const [id, count] of this.#counts) {
      if (count > MOST_OF_A_KIND) {
        const more = `${count - MOST_OF_A_KIND} more findings of this kind, too many to list`;
        yield qcow2Problem(id as Qcow2ProblemId, { offset: 0, length: 0 }, more);
      }
    }
  }
}

class Check {
  readonly #source: ByteSource;
  readonly #header: Qcow2Header;
  readonly #findings: Findings;
  readonly #options: CheckOptions;
  readonly #yieldToEventLoop = makeYielder();
  readonly #refcounts: Refcounts;
  readonly #windows = new Set<number>();

  constructor(source: ByteSource, header: Qcow2Header, findings: Findings, options: CheckOptions) {
    this.#source = source;
    this.#header = header;
    this.#findings = findings;
    this.#options = options;
    this.#refcounts = new Refcounts(source, header);
  }

  async run(): Promise<void> {
    const clusters = Math.ceil(this.#source.sizeBytes / this.#header.clusterBytes);
    for (let first = 0; first < clusters; first += WINDOW_CLUSTERS) {
      // The first walk finds the windows with references: a sparse file can have any length.
      if (first > 0 && !this.#windows.has(first / WINDOW_CLUSTERS)) continue;
      const counts = new UsageCounts(first, Math.min(WINDOW_CLUSTERS, clusters - first));
      await this.#count(counts, clusters);
      await this.#compare(counts);
      const bytes = Math.min(counts.end * this.#header.clusterBytes, this.#source.sizeBytes);
      this.#options.onProgress?.({ phase: "checking", done: bytes, total: this.#source.sizeBytes, unit: "bytes" });
    }
  }

  async #count(counts: UsageCounts, clusters: number): Promise<void> {
    const use = (reference: Reference): boolean => this.#use(counts, reference);
    const say = (id: Qcow2ProblemId, at: number, message: string): void => {
      if (counts.first === 0) this.#findings.add(qcow2Problem(id, { offset: at, length: 8 }, message));
    };
    const walk = new ReferenceWalk(this.#source, this.#header, {
      use,
      reserved: (at) => say("reserved-bits", at, `the entry at ${atByte(at)} has bits set that must be zero`),
      twice: (at, place, times) =>
        say("overlap", at, `the L1 table at ${atByte(at)} names the L2 table at ${atByte(place)} ${times} times`),
      pause: () => this.#pause(),
    });
    await walk.run();
    const { clustersPerBlock } = this.#refcounts;
    const length = this.#header.clusterBytes;
    for (const { index, at, offset } of this.#refcounts.blocks(0, clusters)) {
      use({ at, offset, length, use: USE.other, what: "a refcount block", times: 1, aligned: true });
      if (counts.first === 0) this.#enter(index * clustersPerBlock, (index + 1) * clustersPerBlock);
      await this.#pause();
    }
  }

  /** Records references in the windows of these clusters. */
  #enter(first: number, end: number): void {
    const last = Math.ceil(end / WINDOW_CLUSTERS);
    for (let window = Math.floor(first / WINDOW_CLUSTERS); window < last; window++) this.#windows.add(window);
  }

  #pause(): Promise<void> | undefined {
    if (this.#options.signal?.aborted) throw interrupted(this.#source.name, "it is as it was");
    return this.#yieldToEventLoop();
  }

  /** Counts a reference. Its problems are reported in the first pass only. */
  #use(counts: UsageCounts, { at, offset, length, use, what, times, aligned }: Reference): boolean {
    const { clusterBytes } = this.#header;
    const isFirst = counts.first === 0;
    const say = (id: Qcow2ProblemId, message: string): false => {
      const where = { offset: at, length: 8 };
      if (isFirst) this.#findings.add(qcow2Problem(id, where, `the entry at ${atByte(at)} ${message}`));
      return false;
    };
    if ((aligned && offset % clusterBytes !== 0) || offset > Number.MAX_SAFE_INTEGER - length)
      return say("table-offset", `says that ${what} is at ${offset}, where no cluster begins`);
    if (offset >= this.#source.sizeBytes)
      return say("beyond-end", `says that ${what} is at ${offset}, but the file ends at ${this.#source.sizeBytes}`);
    const first = Math.floor(offset / clusterBytes);
    const end = Math.ceil(Math.min(offset + length, this.#source.sizeBytes) / clusterBytes);
    if (isFirst) this.#enter(first, end);
    const overlap = counts.add(first, end - first, use, times);
    if (overlap === undefined) return true;
    const where = { offset: overlap * clusterBytes, length: clusterBytes };
    const message = `${atByte(where.offset)} is ${what}, as the entry at ${atByte(at)} says, and something else, too`;
    this.#findings.add(qcow2Problem("overlap", where, message));
    return use !== USE.other;
  }

  async #compare(counts: UsageCounts): Promise<void> {
    const { clustersPerBlock } = this.#refcounts;
    const lists = { leak: new ExtentList(), "refcount-low": new ExtentList(), "refcount-high": new ExtentList() };
    const compare = (cluster: number, stored: number): void => {
      const uses = counts.uses(cluster);
      if (uses === stored) return;
      lists[uses > stored ? "refcount-low" : uses === 0 ? "leak" : "refcount-high"].append(cluster, 1);
    };
    let at = counts.first;
    const withoutBlock = (to: number): void => {
      for (; counts.used && at < to; at++) compare(at, 0);
      at = Math.max(at, to);
    };
    for (const { index, offset } of this.#refcounts.blocks(counts.first, counts.end)) {
      withoutBlock(Math.min(counts.end, index * clustersPerBlock));
      const end = Math.min(counts.end, (index + 1) * clustersPerBlock);
      const isThere = offset < this.#source.sizeBytes && offset % this.#header.clusterBytes === 0;
      if (isThere) this.#refcounts.load(offset);
      for (; at < end; at++) compare(at, isThere ? this.#refcounts.count(at - index * clustersPerBlock) : 0);
      await this.#pause();
    }
    withoutBlock(counts.end);
    for (const [id, list] of Object.entries(lists)) this.#report(id as keyof typeof lists, list);
  }

  #report(id: "leak" | "refcount-low" | "refcount-high", list: ExtentList): void {
    const { clusterBytes } = this.#header;
    const words = {
      leak: "has a reference count, but is not used",
      "refcount-low": "is used more often than its reference count says",
      "refcount-high": "is used less often than its reference count says",
    }[id];
    for (const { offset, length } of list) {
      const where = { offset: offset * clusterBytes, length: length * clusterBytes };
      const what = length === 1 ? "the cluster" : `each of ${length} clusters`;
      this.#findings.add(qcow2Problem(id, where, `${what} from ${atByte(where.offset)} on ${words}`));
    }
  }
}
