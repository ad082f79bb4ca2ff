/**
 * Owns what the control socket does with an export's history, without HTTP: checkpoints, their events and counts. How that is
 * done is History's.
 */
import type { History } from "../nbd/server/history.ts";
import type { ExportEntry } from "../nbd/server/live-export.ts";
import type { EventHub } from "./events.ts";
import type { CheckpointedDocument, CheckpointRequestDocument } from "./history-documents.ts";

/** What it needs of the control side. */
export interface HistoryHost {
  readonly verbs: Pick<History, "checkpoint">;
  readonly events: EventHub;
  /** @throws CowError `not-found` */
  get(name: string): ExportEntry;
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
}
