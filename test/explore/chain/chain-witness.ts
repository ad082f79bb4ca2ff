/**
 * Owns the disk of a life of chains and the look at it: every change goes by here, and before it is made the states are kept
 * that a crash at this moment might leave. They are judged when nothing else is under way, for opening them takes turns.
 */
import type { StorageChange } from "../../../src/lib/index.ts";
import { decodeStackDocument, type StackDocument } from "../../../src/lib/stack/stack-document.ts";
import { Disk, PAGE_BYTES, type Random } from "../disk.ts";
import type { Fate } from "../oracle.ts";
import { Died, Violation } from "../violation.ts";
import { describe } from "../witness.ts";
import type { ChainWorld } from "./chain-world.ts";
import { judge, type State } from "./judge.ts";
import { type Model, settle, snapshotOf, versionOf } from "./model.ts";

/** Power cuts tried at each change. */
const CUTS = 2;
const ANOTHER_BOOT = new Uint8Array(16).fill(0xff);

/** What leads from one model to another. */
export interface Transition {
  /** The stack file whose replacement decides. */
  readonly decidedBy: string;
  /** Is that document the new one? */
  readonly isDone: (document: StackDocument) => boolean;
  /** Called at the instant: what there is from now on. */
  readonly after: (before: Model) => Model;
}

export class ChainWitness {
  readonly #world: ChainWorld;
  readonly #look: Random;
  readonly #trace: (line: string) => void;
  disk: Disk;
  /** What was answered, and what an operation in progress made of it: the change decides which counts. */
  model: Model;
  #next: Model | undefined;
  #transition: Transition | undefined;
  /** Kept, not judged. */
  readonly #kept: (State & { readonly change: number })[] = [];
  states = 0;
  changes = 0;
  diesAt = Number.POSITIVE_INFINITY;
  isDead = false;
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

  begin(transition: Transition): void {
    this.#transition = transition;
    this.#next = undefined;
  }

  /** Has the change been made that decides? */
  get isDecided(): boolean {
    return this.#next !== undefined;
  }

  /** The operation was answered: what it made is durable. */
  answered(): void {
    if (!this.#transition) throw new Error("nothing was begun");
    if (!this.#next) throw new Violation("an operation was answered that did not happen");
    this.model = this.#next;
    this.#end();
  }

  /** It failed, and nothing happened. */
  failed(): void {
    if (this.#next) throw new Violation("an operation failed after it had happened");
    this.#end();
  }

  #end(): void {
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
    if (!content || !transition.isDone(decodeStackDocument(content.toBytes(), path))) return;
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
    this.#kept.push({ fate, files, boot, models, change: this.changes });
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
      { fate, files: this.disk.killed(), boot: this.boot, models },
      this.#world,
      this.#look,
    );
    settle(model, seen, fate);
    this.model = model;
    this.#end();
  }
}
