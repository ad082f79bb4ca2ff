/**
 * Owns the figures of one export, in the server's main thread: the slots of its connections, their sums, and its limit.
 * slot.ts has the rules of the memory.
 */
import { Command } from "../../protocol/constants.ts";
import { BUCKETS, cumulative, type LatencyHistogram, type Percentiles, percentiles } from "./histogram.ts";
import { Limit, type Limits } from "./limit.ts";
import { TIMED } from "./request-meter.ts";
import { newShared, newSlot, type PassedMeter, Place, wake } from "./slot.ts";
import { Touched } from "./touched.ts";
import { Unflushed } from "./unflushed.ts";

/**
 * What an export has done since it was added. Requests count once they are answered without an error, before the reply is
 * sent; a read whose mapped data turns out to be unreadable while it is sent is among the errors as well. The original driver's names: `rdoreads` is baseReads, `cowreads` the sum of layerReads, `cowwrites` writes and
 * zeroes, `nrcowblocks` blocksAllocated. The driver counted each part of a request that was in one file; here a request
 * counts once for each file that it reads, so that the figures are at most the driver's.
 */
export interface ExportStats {
  readonly reads: number;
  readonly writes: number;
  readonly trims: number;
  /** WRITE_ZEROES. */
  readonly zeroes: number;
  readonly flushes: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Requests that read from the base, also writes that copied up the rest of a block. */
  readonly baseReads: number;
  /** The same for each layer, bottom to top, by its place: where layers are added or joined while they are read, places count on. */
  readonly layerReads: readonly number[];
  /** Blocks (chunks of a dm-snapshot store) that the top layer has allocated. */
  readonly blocksAllocated: number;
  /** Bytes that were written or zeroed since a flush that covered them. */
  readonly unflushedBytes: number;
  /** Requests that were answered with an error, or by ending the connection. */
  readonly errors: number;
  /** Connections that use it now. */
  readonly connections: number;
  /** In microseconds. */
  readonly latency: { readonly [Kind in LatencyKind]: Percentiles };
}

export type LatencyKind = "read" | "write" | "flush";

/** What the meter asks of a stack. */
export interface MeteredStack {
  /** How many layers it has. */
  readonly depth: number;
  readonly blocksAllocated: number;
}

/** A connection that is counted, for the main thread. */
export interface MeteredConnection {
  /** For the thread that serves it. */
  readonly passed: PassedMeter;
  /** It ends: its last requests do not wait for the limit. */
  release(): void;
  /** It has ended: no thread uses its slot any more. */
  close(): void;
}

interface Figures {
  /** As a slot. */
  readonly sums: Float64Array;
  /** How many layers there are. */
  readonly depth: number;
  readonly blocksAllocated: number;
  readonly unflushedBytes: number;
  readonly connections: number;
}

export class ExportMeter {
  #stack: MeteredStack = { depth: 0, blocksAllocated: 0 };
  readonly #shared = newShared();
  readonly #limit = new Limit(this.#shared);
  readonly #unflushed = new Unflushed(this.#shared);
  /** Which cells of the image were written. */
  readonly touched = new Touched(this.#shared);
  /** What connections did that have ended. */
  #ended: Float64Array = new Float64Array(0);
  readonly #slots = new Set<SharedArrayBuffer>();
  /** Of a connection that has ended: clients that come and go take no new memory. */
  #spare: SharedArrayBuffer | undefined;

  /** The stack that connections will use. Counts go on where the export was closed and is open again. */
  use(stack: MeteredStack): void {
    this.#stack = stack;
    this.layersChanged();
  }

  /** The stack has other layers now. */
  layersChanged(): void {
    this.#spare = undefined;
  }

  /** A connection begins to use the export. */
  connect(): MeteredConnection {
    const slot = this.#spare ?? newSlot(this.#stack.depth + 1);
    this.#spare = undefined;
    this.#slots.add(slot);
    return {
      passed: { slot, shared: this.#shared },
      release: () => wake(slot, true),
      close: () => {
        const counts = new Float64Array(slot);
        if (!this.#slots.delete(slot)) return;
        this.#ended = sumOf([this.#ended, counts], counts.length);
        counts.fill(0);
        this.#spare = slot;
      },
    };
  }

  get limits(): Limits {
    return this.#limit.limits;
  }

  /** Changes the limit, also for requests that wait. `{}` takes it away. */
  setLimit(limits: Limits): void {
    this.#limit.set(limits);
    for (const slot of this.#slots) wake(slot, false);
  }

  /** Makes the stack durable by `work`, as a client's flush does. */
  flush(work: () => void): void {
    this.#unflushed.cover(work);
  }

  snapshot(): ExportStats {
    return statsOf(this.#figures());
  }

  /** The latencies of all requests so far, to be given to latencyBetween() later. */
  histograms(): Float64Array {
    return this.#figures().sums.slice(Place.HISTOGRAMS, Place.LEVELS);
  }

  /** For histograms of Prometheus. */
  latencies(): Readonly<Record<LatencyKind, LatencyHistogram>> {
    const { sums } = this.#figures();
    const of = (kind: number): LatencyHistogram =>
      cumulative(histogramOf(sums, kind), sums[Place.LATENCY_SUMS + kind] ?? 0);
    return { read: of(0), write: of(1), flush: of(2) };
  }

  /** Several exports as one; layers are added by their place in the stack. */
  static total(meters: Iterable<ExportMeter>): ExportStats {
    const all = Array.from(meters, (meter) => meter.#figures());
    const sum = (of: (figures: Figures) => number): number => all.reduce((total, figures) => total + of(figures), 0);
    return statsOf({
      sums: sumOf(
        all.map(({ sums }) => sums),
        Place.LEVELS + 1,
      ),
      blocksAllocated: sum((figures) => figures.blocksAllocated),
      depth: Math.max(0, ...all.map(({ depth }) => depth)),
      unflushedBytes: sum((figures) => figures.unflushedBytes),
      connections: sum((figures) => figures.connections),
    });
  }

  #figures(): Figures {
    const slots = Array.from(this.#slots, (slot) => new Float64Array(slot));
    return {
      sums: sumOf([this.#ended, ...slots], Place.LEVELS + this.#stack.depth + 1),
      depth: this.#stack.depth,
      blocksAllocated: this.#stack.blocksAllocated,
      unflushedBytes: this.#unflushed.bytes,
      connections: this.#slots.size,
    };
  }
}

/** The sums of slots, of any lengths. @param length at least */
function sumOf(slots: readonly Float64Array[], length: number): Float64Array {
  const sums = new Float64Array(Math.max(length, ...slots.map((slot) => slot.length)));
  const add = (slot: Float64Array, from: number, to: number): void => {
    for (let place = from; place < to; place++) sums[place] = (sums[place] ?? 0) + (slot[place] ?? 0);
  };
  for (const slot of slots) {
    add(slot, Place.COMMANDS, Place.HISTOGRAMS);
    for (const [kind, command] of TIMED.entries()) {
      const from = Place.HISTOGRAMS + kind * BUCKETS;
      // Most of a slot is histograms, and mostly some of them are empty.
      if ((slot[Place.COMMANDS + command] ?? 0) > 0) add(slot, from, from + BUCKETS);
    }
    add(slot, Place.LEVELS, slot.length);
  }
  return sums;
}

/** The latencies of what was answered between two histograms(). */
export function latencyBetween(before: Float64Array, after: Float64Array): ExportStats["latency"] {
  const counts = after.map((count, bucket) => count - (before[bucket] ?? 0));
  const of = (kind: number): Percentiles => {
    const ofKind = counts.subarray(kind * BUCKETS, (kind + 1) * BUCKETS);
    return percentiles(
      ofKind,
      ofKind.reduce((sum, count) => sum + count, 0),
    );
  };
  return { read: of(0), write: of(1), flush: of(2) };
}

/** There may have been more layers: what these had counts for the topmost one. */
function layerReadsOf(sums: Float64Array, depth: number): readonly number[] {
  const first = Place.LEVELS + 1;
  const reads = [...sums.subarray(first, first + depth)];
  const above = sums.subarray(first + depth).reduce((sum, count) => sum + count, 0);
  if (depth > 0) reads[depth - 1] = (reads[depth - 1] ?? 0) + above;
  return reads;
}

function histogramOf(sums: Float64Array, kind: number): Float64Array {
  const from = Place.HISTOGRAMS + kind * BUCKETS;
  return sums.subarray(from, from + BUCKETS);
}

function statsOf({ sums, depth, ...others }: Figures): ExportStats {
  const at = (place: number): number => sums[place] ?? 0;
  const latencyOf = (command: number): Percentiles =>
    percentiles(histogramOf(sums, TIMED.indexOf(command)), at(Place.COMMANDS + command));
  return {
    reads: at(Place.COMMANDS + Command.READ),
    writes: at(Place.COMMANDS + Command.WRITE),
    trims: at(Place.COMMANDS + Command.TRIM),
    zeroes: at(Place.COMMANDS + Command.WRITE_ZEROES),
    flushes: at(Place.COMMANDS + Command.FLUSH),
    bytesRead: at(Place.BYTES_READ),
    bytesWritten: at(Place.BYTES_WRITTEN),
    baseReads: at(Place.LEVELS),
    layerReads: layerReadsOf(sums, depth),
    errors: at(Place.ERRORS),
    latency: { read: latencyOf(Command.READ), write: latencyOf(Command.WRITE), flush: latencyOf(Command.FLUSH) },
    ...others,
  };
}
