/**
 * Owns the exports of a running server: they are added, removed, closed and opened again while it runs, as the driver's
 * pairs were. What changes one export waits for what is changing it already. A number stands for one opening of an export
 * and is never used again, so that a thread cannot take an old image for a new one.
 */
import type { OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { storageOf } from "../../operations/files.ts";
import type { Access } from "../../stack/live/access.ts";
import {
  missing,
  ownLock,
  refuseCheckpointName,
  requireAccess,
  requireNewName,
  requireUnused,
} from "./export-rules.ts";
import {
  type ExportChange,
  type ExportEntry,
  type ExportSettings,
  type ExportsHost,
  type KeptExport,
  LiveExport,
  type NewLimits,
} from "./live-export.ts";
import { Offers } from "./offers.ts";
import type { ServedExport } from "./served-export.ts";
import { SharedParts } from "./shared-parts.ts";

export class Exports {
  readonly #context: OperationContext;
  readonly #host: ExportsHost;
  readonly #entries = new Map<string, LiveExport>();
  /** What clients can ask for. */
  readonly offers = new Offers(this.#entries);
  readonly #listeners = new Set<(change: ExportChange, entry: ExportEntry) => void>();
  /** Makes what is there durable before a change is answered. */
  #keep: ((kept: readonly KeptExport[]) => void) | undefined;
  /** Names of the command line. */
  readonly #given = new Set<string>();
  /** Base records that are not written yet: a start that fails leaves nothing behind. */
  readonly #unsettled: (() => void)[] = [];
  #isServing = false;
  #nextNumber = 0;
  #isEnding = false;
  readonly shared: SharedParts;

  constructor(host: ExportsHost, context: OperationContext) {
    this.#host = host;
    this.#context = context;
    this.shared = new SharedParts(context);
  }

  /** In the order in which they were added. */
  get all(): readonly ExportEntry[] {
    return [...this.#entries.values()].filter(({ isPending }) => !isPending);
  }

  /** Clients can connect. */
  begin(): void {
    this.#isServing = true;
    for (const settle of this.#unsettled.splice(0)) settle();
  }

  /** Those whose files are open. */
  get open(): readonly ServedExport[] {
    return this.all.flatMap(({ served }) => served ?? []);
  }

  /** @throws CowError `not-found` */
  get(name: string): LiveExport {
    const entry = this.#entries.get(name);
    if (!entry || entry.isPending) throw missing(name);
    return entry;
  }

  /** @param keep makes durable what there is to be; called before it is so; may throw */
  keepWith(keep: (kept: readonly KeptExport[]) => void): void {
    this.#keep = keep;
  }

  onChange(listener: (change: ExportChange, entry: ExportEntry) => void): void {
    this.#listeners.add(listener);
  }

  /**
   * Opens a stack and offers it to clients.
   *
   * @throws CowError `exists` for a name that is taken; `usage` for one that means a checkpoint or that NBD does not allow, or for more access than the
   *   server gives; as opening the stack
   */
  async add(settings: ExportSettings): Promise<ExportEntry> {
    requireAccess(this.#host.defaults.access, settings.access);
    const entry = this.#claim(settings);
    entry.isPending = true;
    return entry.inTurn(async () => {
      try {
        await this.#open(entry);
        this.#keepAs(entry, entry.kept);
      } catch (error) {
        this.#entries.delete(entry.name);
        await entry.close(this.#host);
        throw error;
      }
      entry.isPending = false;
      this.#tell("added", entry);
      return entry;
    });
  }

  /** Puts back an export of an earlier server. One that cannot be opened stays in the list with its failure. */
  async restore({ settings, state }: KeptExport): Promise<void> {
    const entry = this.#claim(settings);
    entry.wanted = state;
    await entry.inTurn(async () => {
      try {
        if (state === "open") await this.#open(entry);
        else entry.parse(storageOf(this.#context));
      } catch (error) {
        if (!(error instanceof CowError) || error.code === "interrupted") throw error;
        if (state === "open") this.#fail(entry, error);
      }
    });
  }

  /**
   * Takes an export away; its files are closed in order.
   *
   * @param how.force hangs up on the clients that use it, after answering what was received
   * @throws CowError `not-found`; `locked` if clients use it; `io` where something could not be made durable
   */
  remove(name: string, { force = false }: { readonly force?: boolean } = {}): Promise<void> {
    const entry = this.get(name);
    return entry.inTurn(async () => {
      this.#requireThere(entry);
      if (!force) requireUnused(entry, "removed", "drain waits until they have left, force hangs up on them");
      this.#keepAs(entry, undefined);
      try {
        await entry.close(this.#host);
      } finally {
        this.#entries.delete(name);
        this.#tell("removed", entry);
      }
    });
  }

  /**
   * Lets no new client in, waits until those that are there have left, and removes the export. One that is not open is
   * removed at once.
   *
   * @param signal ends the waiting, and the export is as it was
   * @throws CowError as remove(); `interrupted`
   */
  async drain(name: string, signal?: AbortSignal): Promise<void> {
    const entry = this.get(name);
    const isOpen = await entry.inTurn(async () => {
      if (entry.state !== "open") return false;
      entry.state = "draining";
      this.#tell("draining", entry);
      return true;
    });
    if (!isOpen) return this.remove(name);
    await entry.unused(signal);
    if (!signal?.aborted && entry.state === "draining") return this.remove(name);
    if (this.#entries.get(name) === entry && entry.state === "draining") {
      entry.state = "open";
      this.#tell("open", entry);
    }
    throw new CowError("interrupted", `export "${name}" is not removed: it is ${entry.state} again`);
  }

  /**
   * Closes all files of an export, so that the file system with its cowfile can be unmounted. Its clients are hung up on
   * after what was received has been answered; the name stays.
   *
   * @throws CowError `not-found`; `io` where something could not be made durable
   */
  close(name: string): Promise<ExportEntry> {
    return this.#change(name, "closed", async (entry) => {
      this.#keepAs(entry, { ...entry.kept, state: "closed" });
      entry.wanted = "closed";
      await entry.close(this.#host);
      entry.state = "closed";
      entry.failure = undefined;
    });
  }

  /**
   * Opens a closed or failed export again; an open one is closed first.
   *
   * @param how.access another way to serve it from now on
   * @param how.between is done while its files are closed; it is opened whatever becomes of that, or of closing
   * @throws CowError `not-found`; `usage` for more access than the server gives; as opening the stack: the export then is
   *   `failed`; what `between` throws
   */
  reopen(
    name: string,
    { access, between }: { readonly access?: Access | undefined; readonly between?: () => Promise<unknown> } = {},
  ): Promise<ExportEntry> {
    return this.#change(name, "reopened", async (entry) => {
      requireAccess(this.#host.defaults.access, access);
      const settings = access ? { ...entry.settings, access } : entry.settings;
      this.#keepAs(entry, { settings: { ...settings, stack: entry.stack }, state: "open" });
      entry.wanted = "open";
      entry.settings = settings;
      try {
        await entry.close(this.#host);
        await between?.();
      } finally {
        await this.#open(entry).catch((error: unknown) => {
          if (error instanceof CowError) this.#fail(entry, error);
          throw error;
        });
      }
    });
  }

  /**
   * Makes every answered write durable in the cowfile itself: bitmap and head, as the driver's COWSYNC did.
   *
   * @throws CowError `not-found`; `unsuitable` for an export that is not open; `io`
   */
  sync(name: string): Promise<ExportEntry> {
    return this.#change(name, "synced", (entry) => entry.sync());
  }

  /**
   * Changes the limits of an export, from now on.
   *
   * @throws CowError `not-found`
   */
  limit(name: string, limits: NewLimits): Promise<ExportEntry> {
    return this.#change(name, "limited", (entry) => {
      const settings = entry.settingsWith(limits);
      this.#keepAs(entry, { ...entry.kept, settings: { ...settings, stack: entry.stack } });
      entry.settings = settings;
      entry.limit();
    });
  }

  /** Ends all of them. @returns what could not be made durable first */
  async end(): Promise<CowError | undefined> {
    this.#isEnding = true;
    let failure: CowError | undefined;
    for (const entry of this.#entries.values()) {
      await entry.turn.catch(() => undefined);
      try {
        await entry.close(this.#host);
      } catch (error) {
        if (!(error instanceof CowError)) throw error;
        failure ??= error;
      }
    }
    return failure;
  }

  /** Does what changes an export, and tells it. */
  #change(name: string, change: ExportChange, work: (entry: LiveExport) => void | Promise<void>): Promise<ExportEntry> {
    const entry = this.get(name);
    return entry.inTurn(async () => {
      this.#requireThere(entry);
      await work(entry);
      this.#tell(change, entry);
      return entry;
    });
  }

  /**
   * Makes durable what one export is to be, before it becomes that: a change that cannot be kept is not made, and one that was
   * answered is there after a crash.
   *
   * @param next undefined: the export goes
   */
  #keepAs(entry: LiveExport, next: KeptExport | undefined): void {
    const others = [...this.#entries.values()].filter(({ isPending }) => !isPending || entry.isPending);
    this.#keep?.(others.flatMap((each) => (each === entry ? (next ?? []) : each.isPending ? [] : each.kept)));
  }

  /** @throws CowError `exists` for a name that is taken; `usage` for one that NBD does not allow; `unsuitable` when the server ends */
  requireFree(name: string, isGiven = false): void {
    if (this.#isEnding) throw new CowError("unsuitable", "the server is ending");
    const comesBack = !isGiven && this.#keep !== undefined && this.#given.has(name);
    requireNewName(name, { isTaken: this.#entries.has(name), comesBack });
  }

  #claim(settings: ExportSettings): LiveExport {
    const { name, isGiven = false } = settings;
    this.requireFree(name, isGiven);
    if (isGiven) this.#given.add(name);
    const { defaults, onClosed } = this.#host;
    const entry = new LiveExport(settings, defaults, { newNumber: () => this.#nextNumber++, onClosed });
    this.#entries.set(name, entry);
    return entry;
  }

  /** It may have been removed while its turn was awaited. */
  #requireThere(entry: LiveExport): void {
    if (this.#entries.get(entry.name) !== entry) throw missing(entry.name);
  }

  async #open(entry: LiveExport): Promise<void> {
    refuseCheckpointName(entry.name);
    const settle = await entry.open(this.#nextNumber++, this.shared, this.#context).catch((error: unknown) => {
      throw ownLock(this.all, entry, error);
    });
    if (this.#isServing) settle();
    else this.#unsettled.push(settle);
  }

  #fail(entry: LiveExport, failure: CowError): void {
    entry.state = "failed";
    entry.failure = failure;
    this.#tell("failed", entry);
  }

  #tell(change: ExportChange, entry: ExportEntry): void {
    for (const listener of this.#listeners) listener(change, entry);
  }
}
