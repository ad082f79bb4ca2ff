/**
 * Owns what changes the chain of running exports: checkpoints. The steps are in stack/live/checkpoint-chain.ts; here is what
 * they need of the server: exports by name, each changed by one at a time, and news for threads.
 */
import type { OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { storageOf } from "../../operations/files.ts";
import { checkpointStacks, type Member } from "../../stack/live/checkpoint-chain.ts";
import type { PassedImage } from "../../stack/live/passed-image.ts";
import { newLayerPath } from "../../stack/new-layer-path.ts";
import { missing } from "./export-rules.ts";
import type { Exports } from "./exports.ts";
import type { LiveExport } from "./live-export.ts";

export interface CheckpointRequest {
  /** Its name, in each of the exports. */
  readonly as: string;
  readonly note?: string | undefined;
}

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
  readonly #tell: (number: number, image: PassedImage) => void;

  /** @param tell tells all threads of the parts that an export will have, by its number */
  constructor(exports: Exports, context: OperationContext, tell: (number: number, image: PassedImage) => void) {
    this.#exports = exports;
    this.#context = context;
    this.#tell = tell;
  }

  /**
   * Freezes what each of the exports shows, at one instant, while clients write. Returns when the checkpoints can be read, as
   * NAME@CHECKPOINT.
   *
   * @throws CowError `not-found` for an export; `unsuitable` for one without a stack file that is written; `exists` for a name that
   *   is taken; `locked`; `no-space`; `io`
   */
  async checkpoint(names: readonly string[], { as, note }: CheckpointRequest): Promise<MadeCheckpoint> {
    return this.#together(names, async (entries) => {
      const [first, ...others] = entries.map((entry) => this.#memberOf(entry, as));
      if (!first) throw new CowError("usage", "a checkpoint of no export");
      const time = new Date().toISOString();
      const frozen = entries.map(({ served }) => served?.stack.writtenPath ?? "");
      const made = { name: as, time, ...(note !== undefined && { note }) };
      const pauseMs = await checkpointStacks([first, ...others], made, this.#context);
      await Promise.all(entries.map(({ served }) => served?.stack.settling));
      const exports = entries.map((entry, i) => {
        entry.parse(storageOf(this.#context));
        entry.meter.layersChanged();
        return { name: entry.name, frozen: frozen[i] ?? "", top: entry.served?.stack.writtenPath ?? "" };
      });
      return { checkpoint: as, time, pauseMs, exports };
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

  #memberOf({ name, state, served }: LiveExport, as: string): Member {
    if (!served) throw new CowError("unsuitable", `export "${name}" is ${state}: it has no checkpoints now`);
    const { stack, number } = served;
    const storage = storageOf(this.#context);
    const beside = stack.writtenPath ?? "";
    const newTop = newLayerPath(storage, stack.held?.path ?? beside, beside, as);
    return { stack, storage, newTop, tell: (image) => this.#tell(number, image) };
  }
}
