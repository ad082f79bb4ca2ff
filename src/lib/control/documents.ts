/**
 * Owns the JSON documents of the control socket: what the server answers and the client gets, as schemas/openapi.json
 * describes them. Keys are snake_case, sizes are bytes, times are milliseconds since 1970; keys are only ever added.
 */
import type { Progress } from "../context.ts";
import type { ExportEntry, ExportState } from "../nbd/server/live-export.ts";
import type { Access } from "../stack/live/access.ts";
import {
  type CheckpointDocument,
  type PartDocument,
  type ReadableCheckpointDocument,
  readableCheckpoints,
} from "./chain-document.ts";

export type { CheckpointDocument, PartDocument, ReadableCheckpointDocument };

/** An export in a list. */
export interface ExportDocument {
  /** "" for the default export. */
  readonly name: string;
  /** `BASE[,LAYER]…`. */
  readonly stack: string;
  /** Its first URI; "" where clients cannot connect. */
  readonly uri: string;
  readonly more_uris: readonly string[];
  readonly access: Access;
  /** In bytes; null unless it is open. */
  readonly virtual_size: number | null;
  /** Its layers, bottom to top, as they are written in the stack. */
  readonly layers: readonly string[];
  /** Of its stack file, bottom to top; none without one. */
  readonly checkpoints: readonly ReadableCheckpointDocument[];
  /** Clients that use it or one of its checkpoints. */
  readonly connections: number;
  readonly state: ExportState;
  /** How its cowfile was found when it was opened. */
  readonly found: string | null;
  /** Why it is not open, for the state `failed`. */
  readonly error: ErrorDocument | null;
}

/** The exports of a server. */
export interface ExportsDocument {
  readonly exports: readonly ExportDocument[];
}

/** As `cowtool --json` reports errors, without the exit status. */
export interface ErrorDocument {
  readonly code: string;
  readonly message: string;
  readonly details: Readonly<Record<string, string | number | boolean | null>>;
  readonly hints: readonly string[];
}

/** One export with what is not in a list. */
export interface ShownDocument extends ExportDocument {
  readonly base: string;
  /** The file that is written; null if none is. */
  readonly written: string | null;
  /** Bytes that its file system has left; null if unknown. */
  readonly free_bytes: number | null;
  /** Base first. */
  readonly chain: readonly PartDocument[];
}

/** A running server. */
export interface ServerDocument {
  readonly pid: number;
  readonly started_ms: number;
  readonly control: string;
  readonly exports: number;
  readonly connections: number;
  /** The state directory; null for none. */
  readonly state: string | null;
}

/** Where the page is. */
export interface DashboardDocument {
  readonly url: string;
  /** For the page's buttons: `URL#token=TOKEN` gives it to them. */
  readonly token: string;
}

/** What a job does now, or how it ended. */
export type JobState = "running" | "done" | "failed" | "cancelled";

/** A job of a server: what it does and how far it is. */
export interface JobDocument {
  readonly id: number;
  /** What it does: `drain`, `squash`, `flatten`. */
  readonly kind: string;
  /** The export that it is about. */
  readonly name: string;
  readonly state: JobState;
  readonly started_ms: number;
  readonly ended_ms: number | null;
  readonly error: ErrorDocument | null;
  /** How far it is; null for one that waits only. */
  readonly progress: Progress | null;
}

/** The jobs of a server. */
export interface JobsDocument {
  readonly jobs: readonly JobDocument[];
}

/** Something that happened. `type` says what: see docs/operate.md. */
export interface EventDocument {
  /** Ascending within one server. */
  readonly id: number;
  readonly time_ms: number;
  readonly type: string;
  /** The export that it is about; absent for events of the server. */
  readonly name?: string;
  readonly severity?: "note" | "warning";
  readonly file?: string | undefined;
  readonly message?: string;
  readonly free_bytes?: number;
  readonly below?: number;
  readonly checkpoint?: string;
  /** Of a checkpoint: how long requests waited. */
  readonly pause_ms?: number;
  /** The new export. */
  readonly fork?: string;
  readonly job?: JobDocument;
}

/** Percentiles in microseconds; 0 while there are none. */
export interface LatencyDocument {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

/** What an export has done since it was added. */
export interface StatsDocument {
  readonly name: string;
  readonly reads: number;
  readonly writes: number;
  readonly trims: number;
  readonly zeroes: number;
  readonly flushes: number;
  readonly bytes_read: number;
  readonly bytes_written: number;
  /** Requests that read from the base. */
  readonly base_reads: number;
  /** The same for each layer, bottom to top. */
  readonly layer_reads: readonly number[];
  readonly blocks_allocated: number;
  /** Written since a flush covered it. */
  readonly unflushed_bytes: number;
  readonly errors: number;
  readonly connections: number;
  readonly latency: {
    readonly read: LatencyDocument;
    readonly write: LatencyDocument;
    readonly flush: LatencyDocument;
  };
  /** The names of the driver's /proc/cow: base_reads, the sum of layer_reads, writes and zeroes, blocks_allocated. */
  readonly rdoreads: number;
  readonly cowreads: number;
  readonly cowwrites: number;
  readonly nrcowblocks: number;
}

/** The counters of all exports of a server. */
export interface AllStatsDocument {
  readonly exports: readonly StatsDocument[];
}

/** Limits of an export; null for none. */
export interface LimitsDocument {
  readonly name: string;
  /** Requests per second. */
  readonly iops: number | null;
  /** Bytes per second. */
  readonly bandwidth: number | null;
  /** The most bytes that its written layer may allocate. */
  readonly quota: number | null;
}

/** What `limit` takes: what is absent stays, null takes a limit away. */
export type LimitRequest = { readonly [Key in "iops" | "bandwidth" | "quota"]?: number | null | undefined };

/** What `add` takes. */
export interface AddRequest {
  readonly name: string;
  /** Names of files are absolute, or URIs. */
  readonly stack: string;
  readonly access?: Access | undefined;
  readonly repair?: boolean | undefined;
  readonly force?: boolean | undefined;
  /** Bytes to keep free on the file system of the cowfile. */
  readonly reserve?: number | undefined;
  /** The most bytes that its written layer may allocate. */
  readonly quota?: number | undefined;
}

/** @param urisOf an export by its name */
export function exportDocument(entry: ExportEntry, urisOf: (name: string) => readonly string[]): ExportDocument {
  const { name, stack, spec, access, served, state, failure } = entry;
  const [uri = "", ...more] = urisOf(name);
  return {
    name,
    stack,
    uri,
    more_uris: more,
    access: served?.stack.access ?? access,
    virtual_size: served?.stack.sizeBytes ?? null,
    layers: (spec?.layers ?? []).map(({ text }) => text),
    checkpoints: readableCheckpoints(entry, urisOf),
    connections: entry.users.length,
    state,
    found: served?.stack.found ?? null,
    error: failure ? errorDocument(failure) : null,
  };
}

export function statsDocument({ name, meter }: ExportEntry): StatsDocument {
  const stats = meter.snapshot();
  const { baseReads, layerReads, blocksAllocated, writes, zeroes } = stats;
  return {
    name,
    reads: stats.reads,
    writes,
    trims: stats.trims,
    zeroes,
    flushes: stats.flushes,
    bytes_read: stats.bytesRead,
    bytes_written: stats.bytesWritten,
    base_reads: baseReads,
    layer_reads: layerReads,
    blocks_allocated: blocksAllocated,
    unflushed_bytes: stats.unflushedBytes,
    errors: stats.errors,
    connections: stats.connections,
    latency: stats.latency,
    rdoreads: baseReads,
    cowreads: layerReads.reduce((sum, reads) => sum + reads, 0),
    cowwrites: writes + zeroes,
    nrcowblocks: blocksAllocated,
  };
}

export function limitsDocument({ name, settings: { limits }, quotaBytes }: ExportEntry): LimitsDocument {
  return {
    name,
    iops: limits?.iops ?? null,
    bandwidth: limits?.bytesPerSecond ?? null,
    quota: quotaBytes ?? null,
  };
}

/** @param error a CowError */
export function errorDocument({
  code,
  message,
  details,
  hints,
}: Pick<ErrorDocument, "code" | "message" | "details" | "hints">): ErrorDocument {
  return { code, message, details, hints };
}
