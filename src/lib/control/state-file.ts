/**
 * Owns the state directory of a server: the exports that were added while it ran, so that the next one has them again.
 * `exports.json` is replaced as a whole before a change is answered; `lock` is held by the server that uses it.
 */
import type { BlockDevice } from "../device/block-device.ts";
import type { Storage } from "../device/storage.ts";
import { CowError } from "../errors.ts";
import { checkExportName } from "../nbd/server/export-rules.ts";
import type { KeptExport } from "../nbd/server/live-export.ts";
import { accessIn, fieldsOf, limitIn, numberIn, textIn, truthIn } from "./fields.ts";

const LIMIT_BYTES = 64 << 20;
const VERSION = 1;
const STATES = ["open", "closed"] as const;
const KEYS = ["name", "stack", "access", "repair", "force", "reserve", "quota", "iops", "bandwidth", "state"];

export class StateFile {
  readonly #storage: Storage;
  readonly #path: string;
  readonly #lock: BlockDevice;
  /** What was written last. */
  #text = "";

  /**
   * Makes the directory if there is none.
   *
   * @throws CowError `locked` if another server uses it; `permission`, `io`
   */
  constructor(storage: Storage, directory: string) {
    this.#storage = storage;
    this.#path = `${directory}/exports.json`;
    storage.makeDirectory(directory);
    const lock = `${directory}/lock`;
    if (!storage.facts(lock)) {
      const pending = storage.create(lock);
      try {
        pending.commit({ replace: false });
      } catch (error) {
        if (!(error instanceof CowError) || error.code !== "exists") throw error;
      } finally {
        pending.abandon();
      }
    }
    try {
      this.#lock = storage.open(lock, { writable: true, lock: "exclusive" });
    } catch (error) {
      if (!(error instanceof CowError) || error.code !== "locked") throw error;
      throw new CowError("locked", "another server keeps its exports here", { file: directory, cause: error });
    }
  }

  /** @throws CowError `damaged` for what is no such file */
  read(): readonly KeptExport[] {
    const bytes = this.#storage.readSmall(this.#path, LIMIT_BYTES);
    if (!bytes) return [];
    try {
      const { version, exports } = fieldsOf(JSON.parse(Buffer.from(bytes).toString("utf8")), ["version", "exports"]);
      if (version !== VERSION) throw new Error(`it has version ${JSON.stringify(version)}, and ${VERSION} is known`);
      if (!Array.isArray(exports)) throw new Error("exports is no list");
      const kept = exports.map(keptExport);
      const names = kept.map(({ settings }) => settings.name);
      const twice = names.find((name, i) => names.indexOf(name) !== i);
      if (twice !== undefined) throw new Error(`it has export ${JSON.stringify(twice)} twice`);
      return kept;
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new CowError("damaged", `is no list of exports: ${why}`, {
        file: this.#path,
        hints: ["the server starts without it: move it away, and add the exports again"],
      });
    }
  }

  /** Makes them durable. @throws CowError `no-space`, `io` */
  write(kept: readonly KeptExport[]): void {
    const exports = kept.map(({ settings, state }) => ({
      name: settings.name,
      stack: String(settings.stack),
      access: settings.access,
      repair: settings.repair,
      force: settings.force,
      reserve: settings.reserveBytes,
      quota: settings.quotaBytes,
      iops: settings.limits?.iops,
      bandwidth: settings.limits?.bytesPerSecond,
      state,
    }));
    const text = `${JSON.stringify({ version: VERSION, exports }, null, 1)}\n`;
    if (text === this.#text) return;
    const pending = this.#storage.create(this.#path);
    try {
      pending.device.write(Buffer.from(text), 0);
      pending.commit({ replace: true });
    } finally {
      pending.abandon();
    }
    this.#text = text;
  }

  close(): void {
    this.#lock.close();
  }
}

function keptExport(entry: unknown): KeptExport {
  const fields = fieldsOf(entry, KEYS);
  const name = textIn(fields, "name");
  checkExportName(name);
  const state = STATES.find((each) => each === (fields["state"] ?? "open"));
  if (!state) throw new Error(`the state of export ${JSON.stringify(name)} is neither ${STATES.join(" nor ")}`);
  return {
    settings: {
      name,
      stack: textIn(fields, "stack"),
      access: accessIn(fields),
      repair: truthIn(fields, "repair"),
      force: truthIn(fields, "force"),
      reserveBytes: numberIn(fields, "reserve"),
      quotaBytes: limitIn(fields, "quota", 0),
      limits: { iops: numberIn(fields, "iops"), bytesPerSecond: numberIn(fields, "bandwidth") },
    },
    state,
  };
}
