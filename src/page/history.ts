/**
 * Owns what the page remembers of each export: the differences of counters, a second each, for five minutes. Pure, without
 * the browser.
 */
import type { PageDocument, PageExport, PageLook } from "../lib/control/page/page-document.ts";
import type { SpaceSample } from "./forecast.ts";

/** What is shown: five minutes. */
export const WINDOW_MS = 300_000;

export interface Sample {
  readonly timeMs: number;
  readonly reads: number;
  readonly writes: number;
  readonly flushes: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  /** Microseconds; 0 if nothing was answered, undefined while the export was not looked at. */
  readonly latency: PageLook["latency"] | undefined;
}

const COUNTERS = ["reads", "writes", "flushes", "bytes_read", "bytes_written"] as const;

export class History {
  readonly samples: Sample[] = [];
  readonly space: SpaceSample[] = [];
  #last: PageExport | undefined;
  #lastMs = 0;

  /** @param look of the same document, if it is of this export */
  add(timeMs: number, now: PageExport, look: PageLook | null): void {
    const before = this.#last;
    const seconds = (timeMs - this.#lastMs) / 1000;
    this.#last = now;
    this.#lastMs = timeMs;
    const left = spaceLeft(now);
    if (left !== undefined) this.space.push({ timeMs, bytes: left });
    if (before && seconds > 0) {
      // An export that was removed and added again under its name begins at zero.
      const isNew = COUNTERS.some((counter) => now[counter] < before[counter]);
      const per = (counter: (typeof COUNTERS)[number]): number =>
        (now[counter] - (isNew ? 0 : before[counter])) / seconds;
      this.samples.push({
        timeMs,
        reads: per("reads"),
        writes: per("writes"),
        flushes: per("flushes"),
        readBytes: per("bytes_read"),
        writtenBytes: per("bytes_written"),
        latency: look?.latency,
      });
    }
    const isOld = (sample: { readonly timeMs: number } | undefined): boolean =>
      sample !== undefined && sample.timeMs < timeMs - WINDOW_MS;
    while (isOld(this.samples[0])) this.samples.shift();
    while (isOld(this.space[0])) this.space.shift();
  }

  get latest(): Sample | undefined {
    return this.samples.at(-1);
  }
}

/** Bytes that the export can still allocate: its file system's, or what its quota leaves if that is less. */
export function spaceLeft({ free_bytes, quota_bytes, allocated_bytes }: PageExport): number | undefined {
  const ofQuota = quota_bytes === null || allocated_bytes === null ? undefined : quota_bytes - allocated_bytes;
  const all = [free_bytes ?? undefined, ofQuota].filter((each) => each !== undefined);
  return all.length === 0 ? undefined : Math.max(0, Math.min(...all));
}

export class Histories {
  readonly #all = new Map<string, History>();

  add({ time_ms, exports, looked_at }: PageDocument): void {
    const names = new Set(exports.map(({ name }) => name));
    for (const name of this.#all.keys()) if (!names.has(name)) this.#all.delete(name);
    for (const each of exports) this.of(each.name).add(time_ms, each, looked_at?.name === each.name ? looked_at : null);
  }

  of(name: string): History {
    const history = this.#all.get(name) ?? new History();
    this.#all.set(name, history);
    return history;
  }
}
