/**
 * Owns what the control socket can do, without HTTP: each verb of `cowtool ctl` as a function of documents. What one caller
 * asks for ends with an answer or a CowError, and never with the server.
 */
import * as path from "node:path";
import type { Storage } from "../device/storage.ts";
import { CowError } from "../errors.ts";
import type { ExportEntry } from "../nbd/server/live-export.ts";
import type { RunningServer } from "../nbd/server/serve.ts";
import { isNbdUri } from "../protocol/uri.ts";
import type { Access } from "../stack/live/access.ts";
import type { StackPart } from "../stack/part.ts";
import { StackSpec } from "../stack/spec.ts";
import { chainOf, heldBy } from "./chain-document.ts";
import {
  type AddRequest,
  type AllStatsDocument,
  type DashboardDocument,
  type ExportDocument,
  type ExportsDocument,
  exportDocument,
  type JobDocument,
  type LimitRequest,
  type LimitsDocument,
  limitsDocument,
  type ServerDocument,
  type ShownDocument,
  statsDocument,
} from "./documents.ts";
import type { EventHub } from "./events.ts";
import { ControlHistory } from "./history.ts";
import { Jobs } from "./jobs.ts";

export interface ControlFacts {
  /** The path of the control socket; "" for none, which only the page knows. */
  readonly control: string;
  readonly state: string | null;
}

export class Control {
  readonly events: EventHub;
  readonly jobs: Jobs;
  readonly history: ControlHistory;
  readonly #server: RunningServer;
  readonly #storage: Storage;
  readonly #facts: ControlFacts;
  readonly #startedMs = Date.now();
  #dashboard: DashboardDocument | undefined;

  constructor(server: RunningServer, storage: Storage, events: EventHub, facts: ControlFacts) {
    this.events = events;
    this.jobs = new Jobs(events);
    this.#server = server;
    this.#storage = storage;
    this.#facts = facts;
    this.history = new ControlHistory({
      verbs: server.history,
      events,
      jobs: this.jobs,
      document: (entry) => this.document(entry),
      get: (name) => server.exports.get(name),
    });
  }

  server(): ServerDocument {
    const { exports, connectionCount } = this.#server;
    return {
      pid: process.pid,
      ...this.#facts,
      started_ms: this.#startedMs,
      exports: exports.all.length,
      connections: connectionCount(),
    };
  }

  /** @throws CowError `not-found` for a server without a page */
  get dashboard(): DashboardDocument {
    if (this.#dashboard) return this.#dashboard;
    throw new CowError("not-found", "this server has no page: start it with --dashboard 127.0.0.1:8080");
  }

  /** The page is there. */
  announce({ url, token }: DashboardDocument): void {
    this.#dashboard = { url, token };
  }

  list(): ExportsDocument {
    return { exports: this.#server.exports.all.map((entry) => this.document(entry)) };
  }

  /** @throws CowError `not-found` */
  async show(name: string): Promise<ShownDocument> {
    const { exports } = this.#server;
    const entry = exports.get(name);
    const written = entry.served?.stack.writtenPath ?? null;
    return {
      ...this.document(entry),
      base: entry.spec?.base.text ?? entry.stack,
      written,
      free_bytes: this.freeBytes(name) ?? null,
      chain: await chainOf(entry, exports.all, this.#storage),
    };
  }

  /**
   * Bytes that the file system of an export's topmost file has left; undefined if unknown.
   * @throws CowError `not-found`
   */
  freeBytes(name: string): number | undefined {
    const { spec } = this.#server.exports.get(name);
    return spec && this.freeBytesAt(spec.top.path);
  }

  /** Bytes that the files of a part take; null if unknown. */
  heldBy(part: StackPart): number | null {
    return heldBy(this.#storage, part);
  }

  /** Bytes that the file system of a file has left; undefined if unknown. */
  freeBytesAt(file: string): number | undefined {
    return this.#storage.freeBytes(file);
  }

  /** @throws CowError `usage` for names of files that are not absolute; as Exports.add() */
  async add({ name, stack, access, repair, force, reserve, quota }: AddRequest): Promise<ExportDocument> {
    const spec = StackSpec.parse(this.#storage, stack);
    for (const file of spec.files) {
      if (path.isAbsolute(file) || isNbdUri(file)) continue;
      throw new CowError("usage", "is not an absolute name, and the server may have been started elsewhere", { file });
    }
    const settings = { name, stack, access, repair, force, reserveBytes: reserve, quotaBytes: quota };
    return this.document(await this.#server.exports.add(settings));
  }

  /** @throws CowError as Exports.remove() */
  remove(name: string, force: boolean): Promise<void> {
    return this.#server.exports.remove(name, { force });
  }

  /** A job that removes an export when its clients have left. @throws CowError `not-found` */
  drain(name: string): JobDocument {
    const { exports } = this.#server;
    // One that is waited for already need not be waited for twice.
    const running = this.jobs.running(name, ["drain"]);
    if (exports.get(name).state === "draining" && running) return running;
    return this.jobs.begin("drain", name, (signal) => exports.drain(name, signal));
  }

  /** @throws CowError as Exports.close() */
  async close(name: string): Promise<ExportDocument> {
    return this.document(await this.#server.exports.close(name));
  }

  /** @throws CowError as Exports.reopen() */
  async reopen(name: string, access: Access | undefined): Promise<ExportDocument> {
    return this.document(await this.#server.exports.reopen(name, { access }));
  }

  /**
   * @param name undefined for all that are open
   * @throws CowError as Exports.sync(); for several, the first error after all were tried
   */
  async sync(name: string | undefined): Promise<ExportsDocument> {
    const { exports } = this.#server;
    const names = name === undefined ? exports.all.filter(({ served }) => served).map((entry) => entry.name) : [name];
    const synced: ExportDocument[] = [];
    let failure: unknown;
    for (const each of names) {
      try {
        synced.push(this.document(await exports.sync(each)));
      } catch (error) {
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
    return { exports: synced };
  }

  /**
   * @param name undefined for all
   * @throws CowError `not-found`
   */
  stats(name: string | undefined): AllStatsDocument {
    const { exports } = this.#server;
    return { exports: (name === undefined ? exports.all : [exports.get(name)]).map(statsDocument) };
  }

  /** The exports themselves, for metrics. */
  get entries(): readonly ExportEntry[] {
    return this.#server.exports.all;
  }

  /** @throws CowError as Exports.limit() */
  async limit(name: string, { iops, bandwidth, quota }: LimitRequest): Promise<LimitsDocument> {
    const isQuestion = iops === undefined && bandwidth === undefined && quota === undefined;
    if (isQuestion) return limitsDocument(this.#server.exports.get(name));
    const limits = { iops, bytesPerSecond: bandwidth, quotaBytes: quota };
    return limitsDocument(await this.#server.exports.limit(name, limits));
  }

  /** Begins the orderly end of the server. */
  stop(): void {
    this.#server.end();
  }

  document(entry: ExportEntry): ExportDocument {
    return exportDocument(entry, this.#server.urisOf);
  }
}
