/**
 * Owns one export of a running server by its name: its files are opened for a time, closed, and opened again. Must be told
 * to do one thing after the other: exports.ts sees to that.
 */
import type { OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { refusePending, storageOf } from "../../operations/files.ts";
import type { BaseLook } from "../../operations/identity/serve-base.ts";
import type { Access } from "../../stack/live/access.ts";
import type { FoundState } from "../../stack/live/found-state.ts";
import { ServedStack } from "../../stack/live/served-stack.ts";
import { StackSpec } from "../../stack/spec.ts";
import { ExportMeter } from "../meter/export-meter.ts";
import type { Limits } from "../meter/limit.ts";
import type { ExportRequest } from "./serve-request.ts";
import { ServedExport } from "./served-export.ts";
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
  /** The most bytes that the written layer may allocate. */
  readonly quotaBytes?: number | undefined;
  /** Over all of its clients. */
  readonly limits?: Limits | undefined;
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
  readonly spec: StackSpec;
  readonly state: ExportState;
  /** Undefined unless files are open. */
  readonly served: ServedExport | undefined;
  /** Counts go on where it is closed and opened again. */
  readonly meter: ExportMeter;
  /** Why it is not open. */
  readonly failure: CowError | undefined;
}

/** Undefined leaves a limit as it is, null takes it away. */
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

export class LiveExport implements ExportEntry {
  readonly name: string;
  settings: ExportSettings;
  spec: StackSpec;
  state: ExportState = "closed";
  served: ServedExport | undefined;
  failure: CowError | undefined;
  #look: BaseLook | undefined;
  /** Goes on where the export is closed and opened again. */
  readonly meter = new ExportMeter();
  /** The last change that was begun. */
  turn: Promise<unknown> = Promise.resolve();

  constructor(settings: ExportSettings, spec: StackSpec) {
    this.name = settings.name;
    this.settings = settings;
    this.spec = spec;
    this.meter.setLimit(settings.limits ?? {});
  }

  /**
   * Opens the files; clients may use them from then on.
   *
   * @param number of this opening, never used before
   * @returns to be called when clients can connect: writes the base record
   * @throws CowError as opening the stack does
   */
  async open(
    defaults: ExportDefaults,
    number: number,
    { lowers, looks }: SharedParts,
    context: OperationContext,
  ): Promise<() => void> {
    const storage = storageOf(context);
    // A stack file may name other layers by now.
    if (this.spec.stackFile) this.spec = StackSpec.parse(storage, this.spec.text);
    const { spec } = this;
    const { repair = false, force = false, reserveBytes = 0, quotaBytes, access } = { ...defaults, ...this.settings };
    refusePending(storage, spec, [], false);
    const how = spec.layers.length === 0 && access !== "ephemeral" ? "read-only" : (access ?? "writable");
    const looking = { isWritten: how === "writable", force };
    this.#look = spec.layers.length > 0 ? await looks.look(spec, looking) : undefined;
    const { signal, onNotice } = context;
    const options = { access: how, repair, reserveBytes, quotaBytes, signal, onNotice, lowers };
    const stack = await ServedStack.open(storage, spec, options).catch(async (error: unknown) => {
      await this.#look?.end();
      throw error;
    });
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
    const { served } = this;
    if (!served) return;
    this.state = "closed";
    const isFree = await endUsers(served);
    this.served = undefined;
    await this.#look?.end();
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
    while (this.served && this.served.users.size > 0 && !signal?.aborted)
      await Promise.race([Promise.all([...this.served.users].map(({ ended }) => ended)), stopped]);
  }

  /** Holds at once, also for requests that wait, and each time that it is opened. Undefined changes nothing, null takes it away. */
  limit({ iops, bytesPerSecond, quotaBytes }: NewLimits): void {
    const { limits = {}, quotaBytes: oldQuota } = this.settings;
    const chosen = <Value>(given: Value | null | undefined, old: Value | undefined): Value | undefined =>
      given === undefined ? old : (given ?? undefined);
    const wanted: Limits = {
      iops: chosen(iops, limits.iops),
      bytesPerSecond: chosen(bytesPerSecond, limits.bytesPerSecond),
    };
    this.settings = { ...this.settings, limits: wanted, quotaBytes: chosen(quotaBytes, oldQuota) };
    this.meter.setLimit(wanted);
    if (quotaBytes !== undefined) this.served?.stack.usage?.setQuota(quotaBytes ?? undefined);
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
async function endUsers({ users }: ServedExport): Promise<boolean> {
  const waitAll = (): Promise<boolean> =>
    Promise.race([
      Promise.all([...users].map(({ ended }) => ended)).then(() => true),
      new Promise<boolean>((resolve) => setTimeout(() => resolve(false), PATIENCE_MS).unref()),
    ]);
  for (const user of users) user.stop();
  if (users.size === 0 || (await waitAll())) return true;
  for (const user of users) user.kill();
  return waitAll();
}
