/**
 * Owns what a server is asked for, and what it says when it is ready.
 */
import type { Duplex } from "node:stream";
import type { Access } from "../../stack/live/served-stack.ts";
import type { StackSpec } from "../../stack/spec.ts";
import type { TlsRequest } from "./tls-config.ts";

export interface ExportRequest {
  /** "" is the default export. */
  readonly name: string;
  /** `BASE[,LAYER]…`, or that parsed. */
  readonly stack: string | StackSpec;
}

export interface ServeRequest {
  readonly exports: readonly ExportRequest[];
  /** A unix socket's path. */
  readonly socket?: string | undefined;
  /** TCP; the default if nothing else is said is 127.0.0.1:10809. */
  readonly listen?: { readonly host: string; readonly port: number } | undefined;
  /** Serve the one client at the other end of this stream, and listen on nothing. */
  readonly stdio?: Duplex | undefined;
  readonly readOnly?: boolean;
  readonly ephemeral?: boolean;
  readonly repair?: boolean;
  /** Bytes to be left free on the file systems of the cowfiles: writes that need new space then fail with ENOSPC. */
  readonly reserveBytes?: number;
  /** Below so many free bytes there, a warning is given. */
  readonly warnBelowBytes?: number;
  readonly tls?: TlsRequest & { readonly mode: "require" | "allow" };
  readonly maxConnections?: number;
  /** End when the last client has left. */
  readonly exitLast?: boolean;
  readonly pidFile?: string | undefined;
  /** Allow addresses that others can reach without TLS. */
  readonly insecure?: boolean;
  /** Write over a base although it is known to have changed where the cowfile does not hide it. */
  readonly force?: boolean;
  /** For LISTEN_FDS. */
  readonly env?: NodeJS.ProcessEnv;
}

export interface ReadyExport {
  readonly name: string;
  readonly uri: string;
  /** Where else it is served, if it is. */
  readonly more_uris: readonly string[];
  readonly stack: string;
  readonly virtual_size: number;
  readonly access: Access;
  /** How a writable cowfile was found: "clean", "recovered" or "power-cut" (left by a session of ours that didn't end in order). */
  readonly found: string | null;
}

/** What a server says when it is ready. */
export interface Ready {
  /** Of the first export. */
  readonly uri: string;
  readonly exports: readonly ReadyExport[];
  readonly pid: number;
}
