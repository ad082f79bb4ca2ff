/**
 * Owns the checkpoints of one export as exports of their own, NAME@CHECKPOINT: read-only, over files that the export has open
 * anyway. One is opened when a client asks for it, and closed when no client has used it for a while. Which there are is what
 * the export's stack says now; a client that uses one keeps it, whatever becomes of the stack.
 */
import type { CheckpointLevel } from "../../stack/live/checkpoint-level.ts";
import type { ServedStack } from "../../stack/live/served-stack.ts";
import type { ExportMeter } from "../meter/export-meter.ts";
import { type ExportUser, ServedExport } from "./served-export.ts";

/** One that no client uses is closed after this time, or up to twice as long. */
const UNUSED_MS = 10_000;

/** Between the names of an export and of its checkpoint. */
export const AT = "@";

/** The name of a checkpoint as an export. */
export function nameAt(exportName: string, checkpoint: string): string {
  return exportName + AT + checkpoint;
}

/** What views need of the server. */
export interface ViewsHost {
  /** A number for an opening, never used before. */
  readonly newNumber: () => number;
  /** No thread has to remember the image of that number any more. */
  readonly onClosed: (number: number) => void;
}

interface View {
  readonly checkpoint: CheckpointLevel;
  readonly served: ServedExport;
  askedMs: number;
}

export class CheckpointViews {
  readonly #host: ViewsHost;
  readonly #exportName: string;
  readonly #meter: ExportMeter;
  readonly #views = new Set<View>();
  #timer: NodeJS.Timeout | undefined;

  /** @param meter of the export: its checkpoints are counted with it, and share its limit */
  constructor(host: ViewsHost, exportName: string, meter: ExportMeter) {
    this.#host = host;
    this.#exportName = exportName;
    this.#meter = meter;
  }

  /** Those that are open. */
  get open(): readonly ServedExport[] {
    return Array.from(this.#views, ({ served }) => served);
  }

  get users(): readonly ExportUser[] {
    return this.open.flatMap(({ users }) => [...users]);
  }

  /** Clients that use a checkpoint by its name. */
  countOf(checkpoint: string): number {
    return this.open.reduce(
      (sum, { facts, users }) => sum + (facts.name === nameAt(this.#exportName, checkpoint) ? users.size : 0),
      0,
    );
  }

  /** The checkpoint of a stack as an export, opened if it is not open; undefined if the stack has none of that name. */
  find(stack: ServedStack, name: string): ServedExport | undefined {
    const checkpoint = stack.readable.find((each) => each.name === name);
    if (!checkpoint) return undefined;
    const isSame = (each: CheckpointLevel): boolean => each.name === name && each.time === checkpoint.time;
    const view = [...this.#views].find((each) => isSame(each.checkpoint)) ?? this.#open(stack, checkpoint);
    view.askedMs = performance.now();
    return view.served;
  }

  #open(stack: ServedStack, checkpoint: CheckpointLevel): View {
    const served = new ServedExport(
      nameAt(this.#exportName, checkpoint.name),
      stack.at(checkpoint),
      this.#host.newNumber(),
      this.#meter,
    );
    const view = { checkpoint, served, askedMs: 0 };
    this.#views.add(view);
    this.#timer ??= setInterval(() => this.#closeUnused(), UNUSED_MS).unref();
    return view;
  }

  #closeUnused(): void {
    const now = performance.now();
    for (const view of this.#views)
      if (view.served.users.size === 0 && now - view.askedMs >= UNUSED_MS) this.#close(view);
  }

  #close(view: View): void {
    this.#views.delete(view);
    view.served.stack.close();
    this.#host.onClosed(view.served.number);
    if (this.#views.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Closes all of them. Their clients have been hung up on. */
  close(): void {
    for (const view of this.#views) this.#close(view);
  }
}
