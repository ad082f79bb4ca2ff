/**
 * Owns the exports of a running server: they are added, removed, closed and opened again while it runs, as the driver's
 * pairs were. What changes one export waits for what is changing it already. A number stands for one opening of an export
 * and is never used again, so that a thread cannot take an old image for a new one.
 */
import { interrupted, makePause, type OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { refusePending, storageOf } from "../../operations/files.ts";
import { tellingParts } from "../../operations/identity/sampling.ts";
import { lookAtBase } from "../../operations/identity/serve-base.ts";
import { MAX_STRING_BYTES } from "../../protocol/constants.ts";
import type { FoundState } from "../../stack/live/found-state.ts";
import { type Access, ServedStack } from "../../stack/live/served-stack.ts";
import { StackSpec } from "../../stack/spec.ts";
import type { ExportFacts } from "../handshake/export.ts";
import type { ExportRequest } from "./serve-request.ts";
import { ServedExport } from "./served-export.ts";

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
  /** Why it is not open. */
  readonly failure: CowError | undefined;
}

/** What happened to an export. */
export type ExportChange = "added" | "removed" | "closed" | "reopened" | "draining" | "open" | "failed";

export interface ExportsHost {
  /** What every export is opened with unless its settings say otherwise. */
  readonly defaults: Omit<ExportSettings, "name" | "stack">;
  /** No thread has to remember the image of that number any more. */
  readonly onClosed: (number: number) => void;
  /** A thread died at work: files are left as after a crash. */
  readonly isSound: () => boolean;
}

class Entry implements ExportEntry {
  readonly name: string;
  settings: ExportSettings;
  readonly spec: StackSpec;
  state: ExportState = "closed";
  served: ServedExport | undefined;
  failure: CowError | undefined;
  /** The last change that was begun. */
  turn: Promise<unknown> = Promise.resolve();

  constructor(settings: ExportSettings, spec: StackSpec) {
    this.name = settings.name;
    this.settings = settings;
    this.spec = spec;
  }
}

export class Exports {
  readonly #context: OperationContext;
  readonly #host: ExportsHost;
  readonly #entries = new Map<string, Entry>();
  readonly #listeners = new Set<(change: ExportChange, entry: ExportEntry) => void>();
  /** Makes what is there durable before a change is answered. */
  #keep: ((entries: readonly ExportEntry[]) => void) | undefined;
  /** Base records that are not written yet: a start that fails leaves nothing behind. */
  readonly #unsettled: (() => void)[] = [];
  #isServing = false;
  #nextNumber = 0;
  #isEnding = false;

  constructor(host: ExportsHost, context: OperationContext) {
    this.#host = host;
    this.#context = context;
  }

  /** In the order in which they were added. */
  get all(): readonly ExportEntry[] {
    return [...this.#entries.values()];
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

  /** Those that clients may begin to use. */
  get offered(): readonly ServedExport[] {
    return this.all.flatMap(({ served, state }) => (served && state === "open" ? [served] : []));
  }

  /** The export that a client was told about, unless it was closed or replaced meanwhile. */
  offeredAs(facts: ExportFacts): ServedExport | undefined {
    const { served, state } = this.#entries.get(facts.name) ?? {};
    return served?.facts === facts && state === "open" ? served : undefined;
  }

  /** @throws CowError `not-found` */
  get(name: string): ExportEntry {
    return this.#entry(name);
  }

  /** @param keep makes the entries durable; called before a change is answered; may throw */
  keepWith(keep: (entries: readonly ExportEntry[]) => void): void {
    this.#keep = keep;
  }

  /** @returns what ends it */
  onChange(listener: (change: ExportChange, entry: ExportEntry) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Opens a stack and offers it to clients.
   *
   * @throws CowError `exists` for a name that is taken; `usage` for one that NBD does not allow; as opening the stack
   */
  async add(settings: ExportSettings): Promise<ExportEntry> {
    const entry = this.#claim(settings);
    return this.#inTurn(entry, async () => {
      try {
        await this.#open(entry);
        this.#remember();
      } catch (error) {
        this.#entries.delete(entry.name);
        await this.#close(entry);
        throw error;
      }
      this.#tell("added", entry);
      return entry;
    });
  }

  /**
   * Puts back an export of an earlier server. One that cannot be opened stays in the list with its failure.
   *
   * @param state `closed` leaves it closed
   */
  async restore(settings: ExportSettings, state: "open" | "closed"): Promise<void> {
    const entry = this.#claim(settings);
    if (state === "closed") return;
    await this.#inTurn(entry, async () => {
      try {
        await this.#open(entry);
      } catch (error) {
        if (!(error instanceof CowError) || error.code === "interrupted") throw error;
        this.#fail(entry, error);
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
    const entry = this.#entry(name);
    return this.#inTurn(entry, async () => {
      this.#requireThere(entry);
      if (!force) this.#requireUnused(entry, "removed", "drain waits until they have left, force hangs up on them");
      try {
        await this.#close(entry);
      } finally {
        this.#entries.delete(name);
        this.#remember();
        this.#tell("removed", entry);
      }
    });
  }

  /**
   * Lets no new client in, waits until those that are there have left, and removes the export.
   *
   * @param signal ends the waiting, and the export is as it was
   * @throws CowError as remove(); `interrupted`
   */
  async drain(name: string, signal?: AbortSignal): Promise<void> {
    const entry = this.#entry(name);
    await this.#inTurn(entry, async () => {
      if (entry.state !== "open") return;
      entry.state = "draining";
      this.#tell("draining", entry);
    });
    const stopped = new Promise<void>((resolve) => {
      if (signal?.aborted) resolve();
      signal?.addEventListener("abort", () => resolve(), { once: true });
    });
    while (entry.served && entry.served.users.size > 0 && !signal?.aborted)
      await Promise.race([Promise.all([...entry.served.users].map(({ ended }) => ended)), stopped]);
    if (!signal?.aborted) return this.remove(name);
    if (this.#entries.get(name) === entry && entry.state === "draining") {
      entry.state = "open";
      this.#tell("open", entry);
    }
    throw new CowError("interrupted", `export "${name}" is not removed: it is open to clients again`);
  }

  /**
   * Closes all files of an export, so that the file system with its cowfile can be unmounted. Its clients are hung up on
   * after what was received has been answered; the name stays.
   *
   * @throws CowError `not-found`; `io` where something could not be made durable
   */
  close(name: string): Promise<ExportEntry> {
    const entry = this.#entry(name);
    return this.#inTurn(entry, async () => {
      this.#requireThere(entry);
      await this.#close(entry);
      entry.state = "closed";
      entry.failure = undefined;
      this.#remember();
      this.#tell("closed", entry);
      return entry;
    });
  }

  /**
   * Opens a closed or failed export again; an open one is closed first.
   *
   * @param how.access another way to serve it from now on
   * @throws CowError `not-found`; as opening the stack: the export then is `failed`
   */
  reopen(name: string, { access }: { readonly access?: Access | undefined } = {}): Promise<ExportEntry> {
    const entry = this.#entry(name);
    return this.#inTurn(entry, async () => {
      this.#requireThere(entry);
      await this.#close(entry);
      if (access) entry.settings = { ...entry.settings, access };
      try {
        await this.#open(entry);
      } catch (error) {
        if (error instanceof CowError) this.#fail(entry, error);
        throw error;
      }
      this.#remember();
      this.#tell("reopened", entry);
      return entry;
    });
  }

  /**
   * Makes every answered write durable in the cowfile itself: bitmap and head, as the driver's COWSYNC did.
   *
   * @throws CowError `not-found`; `unsuitable` for an export that is not open; `io`
   */
  sync(name: string): Promise<ExportEntry> {
    const entry = this.#entry(name);
    return this.#inTurn(entry, async () => {
      if (!entry.served)
        throw new CowError("unsuitable", `export "${name}" is ${entry.state}: there is nothing to make durable`);
      entry.served.image.flush();
      entry.served.stack.checkpoint();
      return entry;
    });
  }

  /** Ends all of them. @returns what could not be made durable first */
  async end(): Promise<CowError | undefined> {
    this.#isEnding = true;
    let failure: CowError | undefined;
    for (const entry of this.#entries.values()) {
      await entry.turn.catch(() => undefined);
      try {
        await this.#close(entry);
      } catch (error) {
        if (!(error instanceof CowError)) throw error;
        failure ??= error;
      }
    }
    return failure;
  }

  #claim(settings: ExportSettings): Entry {
    const { name } = settings;
    if (this.#isEnding) throw new CowError("unsuitable", "the server is ending");
    if (this.#entries.has(name)) throw new CowError("exists", `there is an export "${name}" already`);
    if (Buffer.byteLength(name) > MAX_STRING_BYTES || name.includes("\0"))
      throw new CowError("usage", `an export's name has at most ${MAX_STRING_BYTES} bytes, none of them NUL`);
    const entry = new Entry(settings, StackSpec.parse(storageOf(this.#context), settings.stack));
    this.#entries.set(name, entry);
    return entry;
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (!entry) throw missing(name);
    return entry;
  }

  /** It may have been removed while its turn was awaited. */
  #requireThere(entry: Entry): void {
    if (this.#entries.get(entry.name) !== entry) throw missing(entry.name);
  }

  #requireUnused({ name, served }: Entry, what: string, hint: string): void {
    const count = served?.users.size ?? 0;
    if (count === 0) return;
    const who = count === 1 ? "a client uses it" : `${count} clients use it`;
    throw new CowError("locked", `export "${name}" cannot be ${what}: ${who}`, { hints: [hint] });
  }

  #inTurn<Result>(entry: Entry, work: () => Promise<Result>): Promise<Result> {
    const done = entry.turn.then(work, work);
    entry.turn = done.catch(() => undefined);
    return done;
  }

  async #open(entry: Entry): Promise<void> {
    const context = this.#context;
    const storage = storageOf(context);
    const { spec } = entry;
    const { repair = false, force = false, reserveBytes = 0, access } = { ...this.#host.defaults, ...entry.settings };
    refusePending(storage, spec, [], false);
    const how = spec.layers.length === 0 && access !== "ephemeral" ? "read-only" : (access ?? "writable");
    const looking = { isWritten: how === "writable", force };
    const settleBase = spec.layers.length > 0 ? await lookAtBase(spec, looking, context) : () => undefined;
    const { signal, onNotice } = context;
    const stack = await ServedStack.open(storage, spec, { access: how, repair, reserveBytes, signal, onNotice });
    try {
      const pause = makePause(signal, () => interrupted("serve", "nothing was served"));
      for (const file of stack.files) file.remember?.(await tellingParts(file, pause));
      entry.served = new ServedExport(entry.name, stack, this.#nextNumber++);
    } catch (error) {
      stack.close();
      throw error;
    }
    entry.state = "open";
    entry.failure = undefined;
    const message = stack.found && FOUND_TEXTS[stack.found];
    if (message) onNotice?.({ severity: "note", file: spec.top.path, message });
    if (this.#isServing) settleBase();
    else this.#unsettled.push(settleBase);
  }

  /** Ends its clients, then closes its files. Does nothing if none are open. */
  async #close(entry: Entry): Promise<void> {
    const { served } = entry;
    if (!served) return;
    entry.state = "closed";
    const isFree = await endUsers(served);
    entry.served = undefined;
    try {
      // A thread that does not come back from a native call still has the files.
      if (isFree && this.#host.isSound()) served.stack.close();
      else served.stack.abandon();
    } finally {
      this.#host.onClosed(served.number);
    }
    const { loss } = served.stack.guard;
    if (loss) throw loss;
  }

  #fail(entry: Entry, failure: CowError): void {
    entry.state = "failed";
    entry.failure = failure;
    this.#tell("failed", entry);
  }

  #remember(): void {
    this.#keep?.(this.all);
  }

  #tell(change: ExportChange, entry: ExportEntry): void {
    for (const listener of this.#listeners) listener(change, entry);
  }
}

function missing(name: string): CowError {
  return new CowError("not-found", `there is no export "${name}"`);
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
