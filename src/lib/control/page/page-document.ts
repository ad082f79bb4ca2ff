/**
 * Owns the JSON documents of the page: what the server sends once a second, and the page in the browser shows. Types only,
 * since the browser's program takes them from here. Times are milliseconds since 1970, sizes bytes, latencies microseconds.
 */

export interface PageDocument {
  readonly time_ms: number;
  readonly server: PageServer;
  readonly exports: readonly PageExport[];
  /** The export that this page looks at; null if it looks at none, or there is none of that name. */
  readonly looked_at: PageLook | null;
}

export interface PageServer {
  readonly pid: number;
  readonly host: string;
  readonly started_ms: number;
  readonly connections: number;
}

/** An export in the list. Counts are since it was added; rates are differences of two documents. */
export interface PageExport {
  /** "" for the default export. */
  readonly name: string;
  /** `open`, `draining`, `closed`, `failed`. */
  readonly state: string;
  readonly access: string;
  /** Null unless it is open. */
  readonly virtual_size: number | null;
  readonly layers: number;
  readonly connections: number;
  readonly reads: number;
  readonly writes: number;
  readonly flushes: number;
  readonly bytes_read: number;
  readonly bytes_written: number;
  readonly errors: number;
  readonly unflushed_bytes: number;
  /** By the written layer; null if none is written. */
  readonly allocated_bytes: number | null;
  readonly quota_bytes: number | null;
  /** Left on the file system of the written file; null if none is written, or that is unknown. */
  readonly free_bytes: number | null;
  /** Why it is not open. */
  readonly error: string | null;
  /** Is it written, and has it a stack file? */
  readonly can_checkpoint: boolean;
}

export interface PageLook {
  readonly name: string;
  readonly uris: readonly string[];
  /** Base first. */
  readonly parts: readonly PagePart[];
  /** Of what was answered since the last document. */
  readonly latency: { readonly [Kind in "read" | "write" | "flush"]: PagePercentiles };
  /** Null until the first cells are known. */
  readonly map: PageMap | null;
}

export interface PagePercentiles {
  readonly p50: number;
  readonly p99: number;
}

/** The base, or a layer. */
export interface PagePart {
  /** As it was written. */
  readonly text: string;
  readonly role: "base" | "layer" | "written" | "discarded";
  /** Requests that read from it. */
  readonly reads: number;
  /** Exports of this server that have it in their stack, this one included. */
  readonly shared_by: number;
  /** What of the image shows from it; null until the map is complete. */
  readonly shown_bytes: number | null;
  /** The name of the checkpoint that it is, if a stack file says so. */
  readonly checkpoint: string | null;
  /** When that was made. */
  readonly checkpoint_ms: number | null;
  /** Bytes that its files take; null if unknown. */
  readonly held_bytes: number | null;
}

/** An image in at most 1024 cells. */
export interface PageMap {
  readonly cell_bytes: number;
  /** Of each cell, the part of the stack that holds most: 0 is the base; -1 where only zeros are; -2 where it is not known. */
  readonly levels: readonly number[];
  /** What that part has of the cell, in percent. */
  readonly shares: readonly number[];
  /** Seconds since the cell was written; -1 for longer than five minutes. */
  readonly ages: readonly number[];
  /** Is only told what the topmost layer has? So for a base on another server, which would have to be asked. */
  readonly is_top_only: boolean;
}
