/**
 * Owns one export of a running server by its name: its files are opened for a time, closed, and opened again. Must be told
 * to do one thing after the other: exports.ts sees to that.
 */
import type { OperationContext } from "../../context.ts";
import type { Storage } from "../../device/storage.ts";
import { CowError } from "../../errors.ts";
import { refusePending, storageOf } from "../../operations/files.ts";
import type { BaseLook } from "../../operations/identity/serve-base.ts";
import type { Access } from "../../stack/live/access.ts";
import type { FoundState } from "../../stack/live/found-state.ts";
import { ServedStack } from "../../stack/live/served-stack.ts";
import { StackSpec } from "../../stack/spec.ts";
import { ExportMeter } from "../meter/export-meter.ts";
import type { Limits } from "../meter/limit.ts";
import { CheckpointViews, type ViewsHost } from "./checkpoint-views.ts";
import type { ExportRequest } from "./serve-request.ts";
import { type ExportUser, ServedExport } from "./served-export.ts";
import type { SharedParts } from "./shared-parts.ts";

const FOUND_TEXTS: Readonly<Record<FoundState, string | undefined>> = {
  clean: undefined,
  recovered: "was left by a server that was killed: nothing is lost",
  "power-cut": "was being served when the machine went down: it is as of the last flush",
};

/** How long clients may take to read the last replies of an export that ends. */
const PATIENCE_MS = 5000;

/** What an export is opened with, each time anew. */
export interface ExportSettings extends ExportRequest {
  /** Default: `writable` with a layer, else `read-only`. */
  readonly access?: Access | undefined;
  readonly repair?: boolean | undefined;
  readonly force?: boolean | undefined;
  /** Bytes to keep free on the file system of the cowfile. */
  readonly reserveBytes?: number | undefined;
  /** The most bytes that the written layer may allocate; null: none, whatever the server's default is. */
  readonly quotaBytes?: number | null | undefined;
  /** Over all of its clients. */
  readonly limits?: Limits | undefined;
  /** The command line has it, and so has that of the next server. */
  readonly isGiven?: boolean;
}

/** How an export is to be put back by the next server. */
export interface KeptExport {
  readonly settings: ExportSettings;
  readonly state: "open" | "closed";
}

/**
 * - `open`: clients can use it
 * - `draining`: those that are there can, until they leave; then it is removed
 * - `closed`: none of its files is open
 * - `failed`: it could not be opened; nothing is open
 */
export type ExportState = "open" | "draining" | "closed" | "failed";

/** One export by its name, open or not. */
export interface ExportEntry {
  readonly name: string;
  readonly settings: ExportSettings;
  /** As written. */
  readonly stack: string;
  /** Undefined for a stack that cannot be read, such as a stack file that is away. */
  readonly spec: StackSpec | undefined;
  readonly state: ExportState;
  /** The most bytes that its written layer may allocate. */
  readonly quotaBytes: number | undefined;
  /** What clients may do when it is open. */
  readonly access: Access;
  /** Undefined unless files are open. */
  readonly served: ServedExport | undefined;
  /** Its checkpoints that clients use. */
  readonly views: Pick<CheckpointViews, "countOf">;
  /** The connections that use it or one of its checkpoints. */
  readonly users: readonly ExportUser[];
  /** Counts go on where it is closed and opened again. */
  readonly meter: ExportMeter;
  /** Why it is not open. */
  readonly failure: CowError | undefined;
}

/** Undefined leaves a limit as it is, null takes it away. Nothing at all only asks. */
export interface NewLimits {
  /** Requests per second. */
  readonly iops?: number | null | undefined;
  readonly bytesPerSecond?: number | null | undefined;
  /** The most bytes that the written layer may allocate. */
  readonly quotaBytes?: number | null | undefined;
}

/** What every export is opened with unless its settings say otherwise. */
export type ExportDefaults = Omit<ExportSettings, "name" | "stack">;

export interface ClosingHost {
  /** No thread has to remember the image of that number any more. */
  readonly onClosed: (number: number) => void;
  /** False when a thread died at work: files are left as after a crash. */
  readonly isSound: () => boolean;
}

/** What happened to an export. */
export type ExportChange =
  | "added"
  | "removed"
  | "closed"
  | "reopened"
  | "synced"
  | "limited"
  | "draining"
  | "open"
  | "failed";

export interface ExportsHost extends ClosingHost {
  /** What every export is opened with unless its settings say otherwise. */
  readonly defaults: ExportDefaults;
}

export class LiveExport implements ExportEntry {
  readonly name: string;
  readonly stack: string;
  settings: ExportSettings;
  spec: StackSpec | undefined;
  state: ExportState = "closed";
  /** What the next server is to do with it. */
  wanted: "open" | "closed" = "open";
  /** It is being added: not listed, and not kept. */
  isPending = false;
  readonly #defaults: ExportDefaults;
  served: ServedExport | undefined;
  failure: CowError | undefined;
  #look: BaseLook | undefined;
  /** Goes on where the export is closed and opened again. */
  readonly meter = new ExportMeter();
  readonly views: CheckpointViews;
  /** A squash or the like that is under way. */
  job: { readonly stop: () => void; readonly ended: Promise<void> } | undefined;
  /** The last change that was begun. */
  turn: Promise<unknown> = Promise.resolve();

  constructor(settings: ExportSettings, defaults: ExportDefaults, host: ViewsHost) {
    this.name = settings.name;
    this.settings = settings;
    this.stack = typeof settings.stack === "string" ? settings.stack : settings.stack.text;
    this.#defaults = defaults;
    const onClosed = (number: number): void => {
      host.onClosed(number);
      // It may have been the last that read what is no layer any more.
      if (this.served) void this.inTurn(async () => this.served?.stack.held?.tryRemoveGone());
    };
    this.views = new CheckpointViews({ ...host, onClosed }, settings.name, this.meter);
    this.meter.setLimit(settings.limits ?? {});
  }

  get users(): readonly ExportUser[] {
    return [...(this.served?.users ?? []), ...this.views.users];
  }

  /** Hangs up on its clients, after answering what was received. @returns false if a connection did not end */
  hangUp(): Promise<boolean> {
    return endUsers(this.users);
  }

  /** Does one thing after the other. */
  inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const done = this.turn.then(work, work);
    this.turn = done.catch(() => undefined);
    return done;
  }

  get kept(): KeptExport {
    return { settings: { ...this.settings, stack: this.stack }, state: this.wanted };
  }

  get quotaBytes(): number | undefined {
    const { quotaBytes = this.#defaults.quotaBytes } = this.settings;
    return quotaBytes ?? undefined;
  }

  /** What its clients may do: never more than the server was started for. */
  get access(): Access {
    const most = this.#defaults.access;
    const wanted = this.settings.access;
    if (most === "read-only" || wanted === "read-only") return "read-only";
    if (most === "ephemeral" || wanted === "ephemeral") return "ephemeral";
    return this.spec && this.spec.layers.length === 0 ? "read-only" : "writable";
  }

  /** @throws CowError as StackSpec.parse() */
  parse(storage: Storage): StackSpec {
    // A stack file may name other layers by now.
    if (!this.spec || this.spec.stackFile) this.spec = StackSpec.parse(storage, this.settings.stack);
    return this.spec;
  }

  /** Its stack has other layers now. */
  layersChanged(storage: Storage): void {
    this.parse(storage);
    this.meter.layersChanged();
  }

  /**
   * Opens the files; clients may use them from then on.
   *
   * @param number of this opening, never used before
   * @returns to be called when clients can connect: writes the base record
   * @throws CowError as opening the stack does
   */
  async open(number: number, { lowers, looks }: SharedParts, context: OperationContext): Promise<() => void> {
    const storage = storageOf(context);
    const spec = this.parse(storage);
    const repair = this.settings.repair ?? this.#defaults.repair ?? false;
    const force = this.settings.force ?? this.#defaults.force ?? false;
    const reserveBytes = this.settings.reserveBytes ?? this.#defaults.reserveBytes ?? 0;
    const { quotaBytes, access: how } = this;
    refusePending(storage, spec, [], false);
    const looking = { isWritten: how === "writable", force };
    this.#look = spec.layers.length > 0 ? await looks.look(spec, looking) : undefined;
    const { signal, onNotice } = context;
    const options = { access: how, repair, reserveBytes, quotaBytes, signal, onNotice, lowers };
    const stack = await ServedStack.open(storage, spec, options).catch(async (error: unknown) => {
      await this.#look?.end();
      throw error;
    });
    this.meter.use(stack);
    this.served = new ServedExport(this.name, stack, number, this.meter);
    this.state = "open";
    this.failure = undefined;
    const message = stack.found && FOUND_TEXTS[stack.found];
    if (message) onNotice?.({ severity: "note", file: spec.top.path, message });
    return () => this.#look?.settle();
  }

  /**
   * Ends its clients, then closes its files. Does nothing if none are open.
   *
   * @throws CowError where something could not be made durable, or was lost to another program
   */
  async close({ isSound, onClosed }: ClosingHost): Promise<void> {
    const { served, job } = this;
    if (!served) return;
    this.state = "closed";
    job?.stop();
    const isFree = await this.hangUp();
    this.served = undefined;
    this.views.close();
    await this.#look?.end();
    await job?.ended;
    // What it was made of before its last checkpoint is closed first.
    if (isFree) await served.stack.settling.then(() => served.stack.retiring);
    try {
      // A thread that does not come back from a native call still has the files.
      if (isFree && isSound()) this.meter.flush(() => served.stack.close());
      else served.stack.abandon();
    } finally {
      onClosed(served.number);
    }
    const { loss } = served.stack.guard;
    if (loss) throw loss;
  }

  /** Resolves when no client uses it any more, or the signal fires. */
  async unused(signal: AbortSignal | undefined): Promise<void> {
    const stopped = new Promise<void>((resolve) => {
      if (signal?.aborted) resolve();
      signal?.addEventListener("abort", () => resolve(), { once: true });
    });
    while (this.users.length > 0 && !signal?.aborted)
      await Promise.race([Promise.all(this.users.map(({ ended }) => ended)), stopped]);
  }

  /** Its settings with other limits. */
  settingsWith({ iops, bytesPerSecond, quotaBytes }: NewLimits): ExportSettings {
    const { limits = {}, quotaBytes: oldQuota } = this.settings;
    const chosen = (given: number | null | undefined, old: number | undefined): number | undefined =>
      given === undefined ? old : (given ?? undefined);
    return {
      ...this.settings,
      limits: { iops: chosen(iops, limits.iops), bytesPerSecond: chosen(bytesPerSecond, limits.bytesPerSecond) },
      quotaBytes: quotaBytes === undefined ? oldQuota : quotaBytes,
    };
  }

  /** Has the limits of its settings hold, also for requests that wait. */
  limit(): void {
    this.meter.setLimit(this.settings.limits ?? {});
    this.served?.stack.usage?.setQuota(this.quotaBytes);
  }

  /** @throws CowError `unsuitable` if it is not open; `io` */
  sync(): void {
    const { served } = this;
    if (!served)
      throw new CowError("unsuitable", `export "${this.name}" is ${this.state}: there is nothing to make durable`);
    this.meter.flush(() => {
      served.image.flush();
      served.stack.checkpoint();
    });
  }
}

/** Answers what was received, then hangs up. @returns false if a connection did not end */
async function endUsers(users: readonly ExportUser[]): Promise<boolean> {
  const waitAll = (): Promise<boolean> =>
    Promise.race([
      Promise.all(users.map(({ ended }) => ended)).then(() => true),
      new Promise<boolean>((resolve) => setTimeout(() => resolve(false), PATIENCE_MS).unref()),
    ]);
  for (const user of users) user.stop();
  if (users.length === 0 || (await waitAll())) return true;
  for (const user of users) user.kill();
  return waitAll();
}
