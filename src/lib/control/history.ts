/**
 * Owns what the control socket does with an export's history, without HTTP: checkpoints, rollbacks, forks, and the jobs that
 * shorten a chain. How that is done is History's; here are documents, events, counts, and names of files that are absolute.
 */
import * as path from "node:path";
import { CowError } from "../errors.ts";
import type { History } from "../nbd/server/history.ts";
import type { ExportEntry } from "../nbd/server/live-export.ts";
import type { ExportDocument, JobDocument } from "./documents.ts";
import type { EventHub } from "./events.ts";
import type {
  CheckpointedDocument,
  CheckpointRequestDocument,
  ForkedDocument,
  ForkRequestDocument,
  RollbackRequestDocument,
  RolledBackDocument,
  SquashRequestDocument,
} from "./history-documents.ts";
import type { Jobs } from "./jobs.ts";

/** What it needs of the control side. */
export interface HistoryHost {
  readonly verbs: Pick<History, "checkpoint" | "rollback" | "fork" | "squash" | "drop" | "flatten" | "grow">;
  readonly events: EventHub;
  readonly jobs: Jobs;
  /** @throws CowError `not-found` */
  get(name: string): ExportEntry;
  document(entry: ExportEntry): ExportDocument;
}

/** Checkpoints of an export since it was added. */
export interface CheckpointsMade {
  total: number;
  pauseMs: number;
}

export class ControlHistory {
  readonly #host: HistoryHost;
  readonly #made = new WeakMap<ExportEntry, CheckpointsMade>();

  constructor(host: HistoryHost) {
    this.#host = host;
  }

  /** How many checkpoints it got, and how long its requests waited for the last one; undefined for none. */
  madeOf(entry: ExportEntry): Readonly<CheckpointsMade> | undefined {
    return this.#made.get(entry);
  }

  /** @throws CowError as History.checkpoint() */
  async checkpoint({ names, as, note }: CheckpointRequestDocument): Promise<CheckpointedDocument> {
    const { checkpoint, time, pauseMs, exports } = await this.#host.verbs.checkpoint(names, { as, note });
    for (const { name } of exports) {
      const entry = this.#host.get(name);
      this.#made.set(entry, { total: (this.#made.get(entry)?.total ?? 0) + 1, pauseMs });
      this.#host.events.publish({ type: "checkpoint", name, checkpoint, pause_ms: pauseMs });
    }
    return { checkpoint, time, pause_ms: pauseMs, exports };
  }

  /** @throws CowError `usage` for a name that is not absolute; as History.rollback() */
  async rollback(name: string, request: RollbackRequestDocument): Promise<RolledBackDocument> {
    requireAbsolute(request.keep);
    const { checkpoint } = request;
    const { removed } = await this.#host.verbs.rollback(name, request);
    this.#host.events.publish({ type: "rollback", name, checkpoint });
    return { ...this.#host.document(this.#host.get(name)), checkpoint, removed };
  }

  /** @throws CowError `usage` for a name that is not absolute; as History.fork() */
  async fork(name: string, { as, checkpoint, cowfile, stack_file }: ForkRequestDocument): Promise<ForkedDocument> {
    requireAbsolute(cowfile);
    requireAbsolute(stack_file);
    const forked = await this.#host.verbs.fork(name, { as, checkpoint, cowfile, stackFile: stack_file });
    this.#host.events.publish({ type: "fork", name, checkpoint: forked.checkpoint, fork: as });
    return { ...this.#host.document(forked.entry), checkpoint: forked.checkpoint };
  }

  /** A job that joins frozen layers. @throws CowError `not-found`; `locked` while another one runs */
  squash(name: string, { from, to }: SquashRequestDocument): JobDocument {
    return this.#begin("squash", name, async (signal, onProgress) => {
      await this.#host.verbs.squash(name, { from, to }, { signal, onProgress });
      this.#host.events.publish({ type: "squashed", name });
    });
  }

  /** A job that makes base and frozen layers a new base. @throws CowError `usage`, `not-found`; `locked` as squash() */
  flatten(name: string, into: string): JobDocument {
    requireAbsolute(into);
    return this.#begin("flatten", name, async (signal, onProgress) => {
      await this.#host.verbs.flatten(name, { into }, { signal, onProgress });
      this.#host.events.publish({ type: "flattened", name, file: into });
    });
  }

  /** @throws CowError as History.drop() */
  async drop(name: string, checkpoint: string): Promise<void> {
    await this.#host.verbs.drop(name, checkpoint);
    this.#host.events.publish({ type: "dropped", name, checkpoint });
  }

  /** @throws CowError as History.grow() */
  async grow(name: string, sizeBytes: number, force: boolean | undefined): Promise<ExportDocument> {
    await this.#host.verbs.grow(name, sizeBytes, { force });
    this.#host.events.publish({ type: "grown", name });
    return this.#host.document(this.#host.get(name));
  }

  #begin(kind: string, name: string, work: Parameters<Jobs["begin"]>[2]): JobDocument {
    this.#host.get(name);
    const { jobs } = this.#host;
    const other = jobs.running(name, ["squash", "flatten"]);
    if (other)
      throw new CowError("locked", `job ${other.id} (${other.kind}) of export "${name}" runs already`, {
        hints: [`wait for it, or \`cowtool ctl jobs cancel ${other.id}\` ends it`],
      });
    return jobs.begin(kind, name, work);
  }
}

function requireAbsolute(file: string | undefined): void {
  if (file?.includes("\0")) throw new CowError("usage", "a name of a file has no NUL character");
  if (file === undefined || path.isAbsolute(file)) return;
  throw new CowError("usage", "is not an absolute name, and the server may have been started elsewhere", { file });
}
