/**
 * Owns what changes the chain of running exports: checkpoints, rollbacks, forks. The steps are in stack/live/checkpoint-chain.ts
 * and roll-back.ts; here is what they need of the server: exports by name, each changed by one at a time, and news for threads.
 */
import * as path from "node:path";
import type { OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { BLOCK_BYTES } from "../../formats/cowfile/layout.ts";
import { OpenFiles, storageOf } from "../../operations/files.ts";
import { shownPath } from "../../operations/history/checkpoint.ts";
import { NewFork } from "../../operations/history/new-fork.ts";
import { type RollbackRequest, requireDiscard } from "../../operations/history/rollback.ts";
import { claimSecond } from "../../operations/history/second-stack-file.ts";
import type { SquashChainRequest, SquashChainResult } from "../../operations/history/squash-chain.ts";
import { resize } from "../../operations/resize.ts";
import {
  checkpointAt,
  checkpointNames,
  dropped,
  requireCheckpointWords,
  requireFreeName,
  rolledBack,
} from "../../stack/chain.ts";
import { checkpointStacks, type Member, makeTop } from "../../stack/live/checkpoint-chain.ts";
import type { PassedImage } from "../../stack/live/passed-image.ts";
import { heldBy, renameCheckpoints, rollBackStack } from "../../stack/live/roll-back.ts";
import { newLayerPath } from "../../stack/new-layer-path.ts";
import type { HeldStackFile } from "../../stack/stack-file.ts";
import type { JobContext } from "./export-job.ts";
import { missing, refuseCheckpointName, requireLarger, requireUnused, requireWritten } from "./export-rules.ts";
import type { Exports } from "./exports.ts";
import { type FlattenRequest, type FlattenResult, HistoryJobs } from "./history-jobs.ts";
import type { ExportEntry, LiveExport } from "./live-export.ts";

export interface CheckpointRequest {
  /** Its name, in each of the exports. */
  readonly as: string;
  readonly note?: string | undefined;
}

export interface ServerForkRequest {
  /** The new export. */
  readonly as: string;
  /** Default: one is made, named as the fork. */
  readonly checkpoint?: string | undefined;
  /** Default: beside the new stack file. */
  readonly cowfile?: string | undefined;
  /** Default: beside that of the export, named as the fork. */
  readonly stackFile?: string | undefined;
}

const HANG_UP = "--force hangs up on them";

/** Files that are removed before other exports have their turn. */
const REMOVED_AT_ONCE = 8;

export interface MadeCheckpoint {
  readonly checkpoint: string;
  /** In ISO 8601. */
  readonly time: string;
  /** How long the clients' requests waited. */
  readonly pauseMs: number;
  /** Files by name: the layer that was the top, and the one that is. */
  readonly exports: readonly { readonly name: string; readonly frozen: string; readonly top: string }[];
}

export class History {
  readonly #exports: Exports;
  readonly #context: OperationContext;
  /** It keeps nothing open: files that are claimed do not exist. */
  readonly #files: OpenFiles;
  readonly #tell: (number: number, image: PassedImage) => void;
  readonly #jobs: HistoryJobs;

  /**
   * @param tell tells all threads of the parts that an export will have, by its number
   * @param maxDepth deeper chains are squashed after a checkpoint, as far as no checkpoint is lost
   */
  constructor(
    exports: Exports,
    context: OperationContext,
    tell: (number: number, image: PassedImage) => void,
    maxDepth?: number,
  ) {
    this.#jobs = new HistoryJobs(exports, context, tell, maxDepth);
    this.#exports = exports;
    this.#context = context;
    this.#files = new OpenFiles(context);
    this.#tell = tell;
  }

  /**
   * Freezes what each of the exports shows, at one instant, while clients write. Returns when the checkpoints can be read, as
   * NAME@CHECKPOINT.
   *
   * @throws CowError `usage` for a name or a note that cannot be; `not-found` for an export; `unsuitable` for one without a stack file that is written; `exists` for a name that
   *   is taken; `locked`; `no-space`; `io`
   */
  async checkpoint(names: readonly string[], { as, note }: CheckpointRequest): Promise<MadeCheckpoint> {
    requireCheckpointWords(as, note);
    return this.#together(names, (entries) => this.#checkpointOf(entries, { as, note }));
  }

  async #checkpointOf(entries: readonly LiveExport[], { as, note }: CheckpointRequest): Promise<MadeCheckpoint> {
    const [first, ...others] = entries.map((entry) => this.#memberOf(entry, as));
    if (!first) throw new CowError("usage", "a checkpoint of no export");
    const time = new Date().toISOString();
    const frozen = entries.map(({ served }) => served?.stack.writtenPath ?? "");
    const made = { name: as, time, ...(note !== undefined && { note }) };
    const pauseMs = await checkpointStacks([first, ...others], made, this.#context).catch((error: unknown) => {
      if (error instanceof CowError && error.details["made"] === true)
        for (const entry of entries) entry.layersChanged(storageOf(this.#context));
      throw error;
    });
    await Promise.all(entries.map(({ served }) => served?.stack.settling));
    const exports = entries.map((entry, i) => {
      entry.layersChanged(storageOf(this.#context));
      return { name: entry.name, frozen: frozen[i] ?? "", top: entry.served?.stack.writtenPath ?? "" };
    });
    for (const entry of entries) this.#jobs.keepShallow(entry);
    return { checkpoint: as, time, pauseMs, exports };
  }

  /**
   * Takes an export back to a checkpoint. Later layers are removed, checkpoints only if `discard` says so; or a
   * stack file `keep` is made that names all of them.
   *
   * @returns the files that are removed, now or once no process has them open
   * @throws CowError `not-found`; `locked` if clients use it, unless `force` hangs up on them; `usage` if later checkpoints
   *   would go; `exists` for the file to be kept; as checkpoint()
   */
  async rollback(
    name: string,
    { checkpoint, keep, discard, force }: RollbackRequest & { readonly force?: boolean | undefined },
  ): Promise<{ readonly removed: readonly string[] }> {
    return this.#together([name], async ([entry]) => {
      const { stack } = this.#switchOf(this.#openEntry(entry));
      const held = await heldBy(stack);
      const at = checkpointAt(held.document, checkpoint, held.name);
      const member = this.#memberOf(this.#openEntry(entry), checkpoint);
      const second = keep === undefined ? undefined : claimSecond(this.#files, held, keep);
      const { gone } = rolledBack(held.document, at, "", second !== undefined);
      requireDiscard(checkpointNames({ layers: gone }), { checkpoint, discard }, held.name);
      await this.#withoutClients(this.#openEntry(entry), force ?? false, async () => {
        const keeping = second && ((file: typeof held) => second.keep(file, at));
        await rollBackStack(member, at, keeping);
      });
      entry?.layersChanged(storageOf(this.#context));
      // Many of them would keep other exports waiting.
      if (entry) this.#removeGone(entry, held);
      return { removed: gone.flatMap(({ file, shared }) => (shared ? [] : shownPath(held, file))) };
    });
  }

  /**
   * Makes a second export over the layers of one up to a checkpoint, with a stack file and a top of its own. What
   * is refused changes nothing; what fails later is taken back, but for an unnamed layer.
   *
   * @throws CowError `exists` for a name or a file that is taken; `usage` for a name that cannot be that of a file, without
   *   `stackFile`; as checkpoint() and Exports.add()
   */
  async fork(
    name: string,
    { as, ...request }: ServerForkRequest,
  ): Promise<{ readonly entry: ExportEntry; readonly checkpoint: string }> {
    const { checkpoint = as } = request;
    refuseCheckpointName(as);
    this.#exports.requireFree(as);
    if (request.stackFile === undefined && !/^[^./][^/]*$/.test(as))
      throw new CowError("usage", `"${as}" is no name for a stack file: name that, too`);
    return this.#together([name], async ([one]) => {
      const entry = this.#openEntry(one);
      const { stack } = this.#switchOf(entry);
      const held = await heldBy(stack);
      const stackFile = request.stackFile ?? path.join(path.dirname(held.name), `${as}.stack`);
      const made = new NewFork(this.#files, held, stackFile, request.cowfile);
      const isNew = request.checkpoint === undefined;
      if (isNew) requireFreeName(held.document, as, held.name);
      const isNamed = !isNew && made.isNamed(checkpointAt(held.document, checkpoint, held.name));
      made.requireFree(isNamed, isNew ? this.#memberOf(entry, as).newTop : undefined);
      if (isNew) await this.#checkpointOf([entry], { as });
      try {
        await this.#makeChild(stack, checkpointAt(held.document, checkpoint, held.name), made);
        return { entry: await this.#exports.add({ name: as, stack: `stack:${made.stackFile}` }), checkpoint };
      } catch (error) {
        made.takeBack();
        if (isNew) await this.#forget(entry, as).catch(() => undefined);
        throw error;
      } finally {
        entry.layersChanged(storageOf(this.#context));
      }
    });
  }

  async #makeChild(stack: Member["stack"], at: number, made: NewFork): Promise<void> {
    await heldBy(stack);
    const lower = stack.parts.lower.at(at + 1);
    try {
      const fingerprint = await lower.fingerprint(Math.floor(lower.stack.device.sizeBytes / BLOCK_BYTES));
      const { top } = stack.parts;
      await made.make(at, () => top && makeTop(storageOf(this.#context), top, made.cowfile, fingerprint));
    } finally {
      lower.release();
    }
  }

  /** Takes the name of a checkpoint away. @throws CowError `not-found`; as checkpoint() */
  async drop(name: string, checkpoint: string): Promise<void> {
    await this.#together([name], async ([entry]) => this.#forget(this.#openEntry(entry), checkpoint));
  }

  async #forget(entry: LiveExport, checkpoint: string): Promise<void> {
    const member = this.#switchOf(entry);
    const held = await heldBy(member.stack);
    held.replace(dropped(held.document, checkpointAt(held.document, checkpoint, held.name)));
    renameCheckpoints(member, held);
    entry.layersChanged(storageOf(this.#context));
    this.#jobs.keepShallow(entry);
  }

  /**
   * Makes the image of an export larger. Clients learn the size when they connect.
   *
   * @throws CowError `locked` if clients use it, unless `force` hangs up on them; as resize()
   */
  async grow(
    name: string,
    sizeBytes: number,
    { force = false }: { readonly force?: boolean | undefined },
  ): Promise<void> {
    const entry = this.#openEntry(this.#exports.get(name));
    const writtenPath = requireLarger(entry, sizeBytes);
    if (!force) requireUnused(entry, "made larger", HANG_UP);
    await this.#exports.reopen(name, { between: () => resize(writtenPath, { sizeBytes }, this.#context) });
  }

  /** Joins frozen layers: see HistoryJobs. */
  squash(
    name: string,
    range: NonNullable<SquashChainRequest["range"]> = {},
    how: JobContext = {},
  ): Promise<SquashChainResult> {
    return this.#jobs.squash(name, range, how);
  }

  /** Writes all but the top as a new base: see HistoryJobs. */
  flatten(name: string, request: FlattenRequest, how: JobContext = {}): Promise<FlattenResult> {
    return this.#jobs.flatten(name, request, how);
  }

  #openEntry(entry: LiveExport | undefined): LiveExport {
    if (entry?.served && entry.state === "open") return entry;
    throw new CowError(
      "unsuitable",
      `export "${entry?.name}" is ${entry?.state}: its history is changed while it is open`,
    );
  }

  /** Lets no client in meanwhile. @throws CowError `locked` if clients use it, unless `force` hangs up on them */
  async #withoutClients(entry: LiveExport, force: boolean, work: () => Promise<void>): Promise<void> {
    entry.state = "draining";
    try {
      if (!force) requireUnused(entry, "rolled back", HANG_UP);
      else if (!(await entry.hangUp())) throw new CowError("locked", `a client of export "${entry.name}" does not end`);
      entry.views.close();
      await work();
    } finally {
      entry.state = "open";
    }
  }

  /** In the background, a few at a time. What fails here is done by the next holder of the stack file. */
  #removeGone(entry: LiveExport, held: HeldStackFile): void {
    const work = async (): Promise<void> => {
      if (entry.served?.stack.held !== held) return;
      const gone = held.removeGone(this.#context.onNotice, REMOVED_AT_ONCE);
      if (gone.length >= REMOVED_AT_ONCE) this.#removeGone(entry, held);
    };
    setImmediate(() => {
      entry.inTurn(work).catch((error: unknown) => {
        if (!(error instanceof CowError)) throw error;
      });
    });
  }

  /** Does what concerns several exports while nothing else changes any of them. */
  #together<Result>(
    names: readonly string[],
    work: (entries: readonly LiveExport[]) => Promise<Result>,
  ): Promise<Result> {
    const entries = names.map((name) => this.#exports.get(name));
    if (new Set(names).size < names.length) throw new CowError("usage", "an export is named twice");
    const begin = async (): Promise<Result> => {
      // One may have been removed while its turn was awaited.
      for (const entry of entries) if (this.#exports.get(entry.name) !== entry) throw missing(entry.name);
      return work(entries);
    };
    // In one order for all: two that have exports in common do not wait for each other.
    const ordered = [...entries].sort((a, b) => (a.name < b.name ? -1 : 1));
    return ordered.reduce((next, entry) => () => entry.inTurn(next), begin)();
  }

  #switchOf(entry: LiveExport): Pick<Member, "stack" | "tell"> {
    const { name, state, served } = entry;
    if (!served) throw new CowError("unsuitable", `export "${name}" is ${state}: it has no checkpoints now`);
    requireWritten(entry);
    return { stack: served.stack, tell: (image) => this.#tell(served.number, image) };
  }

  /** @param as a checkpoint's name: a part of that of the new top */
  #memberOf(entry: LiveExport, as: string): Member {
    const { stack, tell } = this.#switchOf(entry);
    const storage = storageOf(this.#context);
    const beside = stack.writtenPath ?? "";
    const newTop = newLayerPath(storage, stack.held?.path ?? beside, beside, as);
    return { stack, storage, newTop, tell };
  }
}
