/**
 * Owns what the page shows, once a second: read while a page is open, shared by all pages, and gathered in pieces, so
 * that a thousand exports do not keep the main thread from its work. Of the export that is looked at it has the map, too.
 */
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { makeYielder } from "../../context.ts";
import { latencyBetween } from "../../nbd/meter/export-meter.ts";
import type { ExportEntry } from "../../nbd/server/live-export.ts";
import type { ServedExport } from "../../nbd/server/served-export.ts";
import { isNbdUri } from "../../protocol/uri.ts";
import type { StackPart } from "../../stack/part.ts";
import type { Control } from "../control.ts";
import { BlockCells } from "./block-cells.ts";
import type { PageDocument, PageExport, PageLook, PagePart } from "./page-document.ts";

const EVERY_MS = 1000;
/** Gathering and walking rest after this, and for so long. */
const PACE = { everyMs: 2, restMs: 8 };
/** A map is made anew after this, and never takes more than a fifth of the time. */
const MAP_MS = 2000;
const MAP_SHARE = 0.2;

/** An export that is looked at. */
class Look {
  viewers = 0;
  readonly served: ServedExport;
  readonly cells: BlockCells;
  /** What files take that are not written. */
  readonly held = new Map<string, number | null>();
  #histograms: Float64Array;
  #latency: PageLook["latency"];

  constructor(served: ServedExport, isTopOnly: boolean) {
    this.served = served;
    this.cells = new BlockCells(served, isTopOnly);
    this.#histograms = served.meter.histograms();
    this.#latency = latencyBetween(this.#histograms, this.#histograms);
  }

  /** Once for each tick, however many look. */
  tick(nowMs: number): void {
    const histograms = this.served.meter.histograms();
    this.#latency = latencyBetween(this.#histograms, histograms);
    this.#histograms = histograms;
    this.cells.noteWrites(nowMs);
  }

  get latency(): PageLook["latency"] {
    return this.#latency;
  }
}

export class PageFeed {
  readonly #control: Control;
  readonly #looks = new Map<string, Look>();
  /** The list that is being gathered, or was last. */
  #list: Promise<PageDocument> | undefined;
  #listMs = Number.NEGATIVE_INFINITY;
  /** In how many exports each file is. */
  #sharers: ReadonlyMap<string, number> = new Map();
  /** One map is made at a time. */
  #mapping: Promise<void> = Promise.resolve();

  constructor(control: Control) {
    this.#control = control;
  }

  /** Documents, one a second, until the signal fires. @param name of the export that is looked at */
  async *watch(name: string | undefined, signal: AbortSignal): AsyncGenerator<PageDocument> {
    while (!signal.aborted) {
      const entry = this.#find(name);
      const look = this.#join(entry);
      try {
        while (!signal.aborted && this.#isCurrent(name, entry, look)) {
          const document = await this.#current();
          if (!this.#isCurrent(name, entry, look)) break;
          yield { ...document, looked_at: entry ? this.#lookedAt(entry, look, document.time_ms) : null };
          await sleep(EVERY_MS, undefined, { signal }).catch(() => undefined);
        }
      } finally {
        this.#leave(look);
      }
    }
  }

  /** Is the export still there, opened as it was? */
  #isCurrent(name: string | undefined, entry: ExportEntry | undefined, look: Look | undefined): boolean {
    return this.#find(name) === entry && entry?.served === look?.served;
  }

  #find(name: string | undefined): ExportEntry | undefined {
    return this.#control.entries.find((each) => each.name === name);
  }

  #join(entry: ExportEntry | undefined): Look | undefined {
    if (!entry?.served) return undefined;
    let look = this.#looks.get(entry.name);
    if (look?.served !== entry.served) {
      look = new Look(entry.served, entry.spec?.files.some(isNbdUri) ?? false);
      this.#looks.set(entry.name, look);
      void this.#keepMap(entry, look);
    }
    look.viewers++;
    return look;
  }

  #leave(look: Look | undefined): void {
    if (!look) return;
    look.viewers--;
    const { name } = look.served.facts;
    if (look.viewers === 0 && this.#looks.get(name) === look) this.#looks.delete(name);
  }

  /** Makes its map again and again, as long as a page looks at it. */
  async #keepMap(entry: ExportEntry, look: Look): Promise<void> {
    const goesOn = (): boolean => this.#looks.get(entry.name) === look && entry.served === look.served;
    // The first viewer joins right after this call.
    await Promise.resolve();
    while (goesOn()) {
      const turn = this.#mapping.then(async () => {
        const startMs = performance.now();
        await look.cells.scan(goesOn, () => sleep(PACE.restMs));
        return performance.now() - startMs;
      });
      this.#mapping = turn.then(
        () => undefined,
        () => undefined,
      );
      const tookMs = await turn.catch(() => Number.POSITIVE_INFINITY);
      if (tookMs === Number.POSITIVE_INFINITY) return;
      await sleep(Math.max(MAP_MS, tookMs / MAP_SHARE), undefined, { ref: false });
    }
  }

  #current(): Promise<PageDocument> {
    const nowMs = performance.now();
    if (!this.#list || nowMs - this.#listMs > EVERY_MS * 0.9) {
      this.#listMs = nowMs;
      this.#list = this.#gather();
    }
    return this.#list;
  }

  async #gather(): Promise<PageDocument> {
    const timeMs = Date.now();
    for (const look of this.#looks.values()) look.tick(timeMs);
    const { pid, started_ms, connections } = this.#control.server();
    const yieldToEventLoop = makeYielder(PACE);
    const exports: PageExport[] = [];
    const sharers = new Map<string, number>();
    for (const entry of this.#control.entries) {
      await yieldToEventLoop();
      exports.push(this.#exportOf(entry));
      for (const file of new Set(entry.spec?.files)) sharers.set(file, (sharers.get(file) ?? 0) + 1);
    }
    this.#sharers = sharers;
    return {
      time_ms: timeMs,
      server: { pid, host: hostname(), started_ms, connections },
      exports,
      looked_at: null,
    };
  }

  #exportOf(entry: ExportEntry): PageExport {
    const { served } = entry;
    const stats = entry.meter.snapshot();
    const { name, state, access, virtual_size, connections, error } = this.#control.document(entry);
    const usage = served?.stack.usage;
    const written = served?.stack.writtenPath;
    return {
      name,
      state,
      access,
      virtual_size,
      layers: entry.spec?.layers.length ?? 0,
      connections,
      reads: stats.reads,
      writes: stats.writes,
      flushes: stats.flushes,
      bytes_read: stats.bytesRead,
      bytes_written: stats.bytesWritten,
      errors: stats.errors,
      unflushed_bytes: stats.unflushedBytes,
      allocated_bytes: usage?.allocatedBytes ?? null,
      quota_bytes: usage?.quotaBytes ?? null,
      free_bytes: written === undefined ? null : (this.#control.freeBytesAt(written) ?? null),
      error: error?.message ?? null,
      can_checkpoint: written !== undefined && entry.spec?.stackFile !== undefined,
    };
  }

  #lookedAt(entry: ExportEntry, look: Look | undefined, nowMs: number): PageLook {
    const { uri, more_uris } = this.#control.document(entry);
    const none = { p50: 0, p99: 0 };
    return {
      name: entry.name,
      uris: [uri, ...more_uris].filter((each) => each !== ""),
      parts: this.#partsOf(entry, look),
      latency: look?.latency ?? { read: none, write: none, flush: none },
      map: look?.cells.document(nowMs) ?? null,
    };
  }

  #partsOf(entry: ExportEntry, look: Look | undefined): readonly PagePart[] {
    const { spec, meter } = entry;
    if (!spec) return [];
    const { baseReads, layerReads } = meter.snapshot();
    const access = entry.served?.stack.access;
    const shown = look?.cells.shownBytes;
    const parts = spec.parts.map((part, level): PagePart => {
      const { text, path, listed } = part;
      const time = listed?.checkpoint?.time;
      const isWritten = level > 0 && level === spec.layers.length && access === "writable";
      return {
        text,
        role: level === 0 ? "base" : isWritten ? "written" : "layer",
        reads: (level === 0 ? baseReads : layerReads[level - 1]) ?? 0,
        shared_by: this.#sharers.get(path) ?? 1,
        shown_bytes: shown?.[level] ?? null,
        checkpoint: listed?.checkpoint?.name ?? null,
        checkpoint_ms: time === undefined ? null : Date.parse(time),
        held_bytes: this.#heldBy(part, level < spec.layers.length ? look : undefined),
      };
    });
    if (access !== "ephemeral") return parts;
    const level = parts.length;
    const [reads, bytes] = [layerReads[level - 1] ?? 0, shown?.[level] ?? null];
    const nothing = {
      checkpoint: null,
      checkpoint_ms: null,
      held_bytes: entry.served?.stack.usage?.allocatedBytes ?? null,
    };
    return [...parts, { text: "", role: "discarded", reads, shared_by: 1, shown_bytes: bytes, ...nothing }];
  }

  /** @param look remembers it, for what is not written */
  #heldBy(part: StackPart, look: Look | undefined): number | null {
    const known = look?.held.get(part.path);
    if (known !== undefined) return known;
    const bytes = this.#control.heldBy(part);
    look?.held.set(part.path, bytes);
    return bytes;
  }
}
