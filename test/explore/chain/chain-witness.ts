/**
 * Owns the disk of a life of chains and the look at it: every change goes by here, and before it is made the states are kept
 * that a crash at this moment might leave. They are judged when nothing else is under way, for opening them takes turns.
 */
import type { StorageChange } from "../../../src/lib/index.ts";
import { decodeStackDocument } from "../../../src/lib/stack/stack-document.ts";
import { Disk, PAGE_BYTES, type Random } from "../disk.ts";
import type { Fate } from "../oracle.ts";
import { Died, Violation } from "../violation.ts";
import { describe } from "../witness.ts";
import type { ChainWorld } from "./chain-world.ts";
import { judge, type State } from "./judge.ts";
import { type Model, settle, snapshotOf, versionOf } from "./model.ts";
import type { Operation, Transition } from "./operations.ts";

/** Power cuts tried at each change. */
const CUTS = 2;
/** How often it is looked while no operation on chains is under way: lives of a cowfile are for that. */
const SHARE_OF_QUIET = 0.15;
const ANOTHER_BOOT = new Uint8Array(16).fill(0xff);

export class ChainWitness {
  readonly #world: ChainWorld;
  readonly #look: Random;
  readonly #trace: (line: string) => void;
  disk: Disk;
  /** What was answered, and what an operation in progress made of it: the change decides which counts. */
  model: Model;
  #next: Model | undefined;
  #transition: Transition | undefined;
  /** A stack file that counts only if the model has it. */
  #makes: string | undefined;
  /** Kept, not judged. */
  readonly #kept: (State & { readonly change: number })[] = [];
  states = 0;
  changes = 0;
  diesAt = Number.POSITIVE_INFINITY;
  isDead = false;
  /** An operation on chains is under way. */
  isBusy = false;
  boot: Uint8Array;
  #bootCount = 0;
  violation: Violation | undefined;
  #snapshots: { readonly version: number; readonly models: readonly Model[] } | undefined;
  #version = 0;

  constructor(world: ChainWorld, model: Model, look: Random, trace: (line: string) => void) {
    this.#world = world;
    this.model = model;
    this.#look = look;
    this.#trace = trace;
    this.disk = Disk.of(world.files);
    this.boot = this.#newBoot();
  }

  #newBoot(): Uint8Array {
    this.#bootCount++;
    return new Uint8Array(16).fill(this.#bootCount);
  }

  /** The storage of a new process, which dies before the change of that number. */
  mount(diesAt: number) {
    this.diesAt = diesAt;
    this.isDead = false;
    return this.disk.mount((change) => this.#onChange(change));
  }

  begin({ transition, makes }: Pick<Operation, "transition" | "makes">): void {
    this.isBusy = true;
    this.#transition = transition;
    this.#makes = makes;
    this.#next = undefined;
    // The document as it is now is not the new one.
    const there = transition && this.disk.current(transition.decidedBy);
    if (there) transition.isDone?.(decodeStackDocument(there.toBytes(), transition.decidedBy));
  }

  /** Has the change been made that decides? */
  get isDecided(): boolean {
    return this.#next !== undefined;
  }

  /** The operation was answered: what it made is durable. */
  answered(): void {
    if (this.#transition && !this.#next) this.#requireDone(this.#transition.after(this.model));
    for (const [disk, { checkpoints }] of this.#next ?? []) {
      for (const [name, oracle] of checkpoints)
        if (!this.model.get(disk)?.checkpoints.has(name)) oracle.reset(Buffer.from(oracle.current));
    }
    this.model = this.#next ?? this.model;
    this.#makes = undefined;
    this.#end();
  }

  /** Nothing was changed: then it was so before. */
  #requireDone(after: Model): void {
    for (const [disk, { image, checkpoints }] of this.model) {
      const wanted = after.get(disk);
      const isSame = wanted?.image.current.equals(image.current) && wanted.checkpoints.size === checkpoints.size;
      if (!isSame) throw new Violation(`an operation was answered that did not happen to ${disk}`);
    }
  }

  #end(): void {
    this.isBusy = false;
    this.#transition = undefined;
    this.#next = undefined;
    this.#version++;
  }

  #onChange(change: StorageChange): void {
    if (this.isDead) throw new Died("dead already");
    this.look(change);
    if (this.changes >= this.diesAt || this.violation) this.die();
    this.changes++;
    this.#trace(`    ${describe(change)}`);
    if (change.kind === "name") this.#notice(change);
  }

  #notice({ path, file }: Extract<StorageChange, { kind: "name" }>): void {
    const transition = this.#transition;
    if (!transition || this.#next || path !== transition.decidedBy || file === undefined) return;
    const content = this.disk.contentOf(file);
    if (!content) return;
    if (transition.isDone && !transition.isDone(decodeStackDocument(content.toBytes(), path))) return;
    this.#next = transition.after(this.model);
    this.#version++;
    this.#trace("    -- the instant");
  }

  die(): never {
    this.isDead = true;
    throw new Died("dies now");
  }

  /** Keeps what a crash at this very moment might leave. @param coming what is just about to be done */
  look(coming?: StorageChange): void {
    if (!this.isBusy && coming && this.#look() > SHARE_OF_QUIET) return;
    if (coming?.kind === "device" && coming.change.kind === "write" && coming.change.bytes.length > PAGE_BYTES)
      this.#keep("kill", this.disk.killedDuring(coming, this.#look), this.boot);
    this.#keep("kill", this.disk.killed(), this.boot);
    const cuts = this.disk.pendingCount === 0 ? 1 : CUTS;
    for (let i = 0; i < cuts; i++)
      this.#keep(
        "power-cut",
        this.disk.powerCut(this.#look, (path) => path),
        ANOTHER_BOOT,
      );
  }

  /** Which models count. */
  #models(fate: Fate): readonly Model[] {
    if (!this.#next) return [this.model];
    return fate === "kill" ? [this.#next] : [this.#next, this.model];
  }

  #keep(fate: Fate, files: State["files"], boot: Uint8Array): void {
    this.states++;
    const all = this.#next ? [this.#next, this.model] : [this.model];
    const version = this.#version * 1e9 + all.reduce((sum, model) => sum + versionOf(model), 0);
    if (this.#snapshots?.version !== version) this.#snapshots = { version, models: all.map(snapshotOf) };
    const models = this.#snapshots.models.slice(0, this.#models(fate).length);
    this.#kept.push({ fate, files, boot, models, makes: this.#makes, isQuiet: !this.isBusy, change: this.changes });
  }

  get isFull(): boolean {
    return this.#kept.length > 200;
  }

  /** Judges what was kept. */
  async judgeAll(): Promise<void> {
    for (const state of this.#kept.splice(0)) {
      if (this.violation) break;
      try {
        await judge(state, this.#world, this.#look);
      } catch (error) {
        if (!(error instanceof Violation)) throw error;
        this.violation = new Violation(`change ${state.change}: ${error.message}`, { cause: error });
      }
    }
    if (this.violation) throw this.violation;
  }

  /** The power goes, and comes again. */
  powerCut(next: Random): void {
    this.disk = Disk.of(this.disk.powerCut(next, (path) => path));
    this.boot = this.#newBoot();
  }

  /** What the next process will see is settled now, and must stay so through whatever becomes of its opening. */
  async settle(fate: Fate): Promise<void> {
    await this.judgeAll();
    const models = this.#models(fate);
    const { model, seen } = await judge(
      { fate, files: this.disk.killed(), boot: this.boot, models, makes: this.#makes, isQuiet: false },
      this.#world,
      this.#look,
    );
    settle(model, seen, fate);
    // Else it would be unknown to the end which chain a later power cut leaves.
    this.disk.syncNames();
    this.model = model;
    this.#end();
  }
}
