/**
 * Owns the request to a server, and its report when it is ready.
 */
import type { Duplex } from "node:stream";
import type { Access } from "../../stack/live/access.ts";
import type { StackSpec } from "../../stack/spec.ts";
import type { TlsRequest } from "./tls-config.ts";

/** An export that is served from the start. */
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
  /** Serve the one client at the other end of this stream, and do not listen. */
  readonly stdio?: Duplex | undefined;
  readonly readOnly?: boolean;
  readonly ephemeral?: boolean;
  readonly repair?: boolean;
  /** Bytes to keep free on the file systems of the cowfiles: writes that need new space then fail with ENOSPC. */
  readonly reserveBytes?: number;
  /** The most bytes that each written cowfile or store may allocate: writes that need more then fail with ENOSPC. */
  readonly quotaBytes?: number;
  /** Warn when fewer bytes are free there. */
  readonly warnBelowBytes?: number;
  readonly tls?: TlsRequest & { readonly mode: "require" | "allow" };
  readonly maxConnections?: number;
  /** After a checkpoint or a drop, squash what has no name where a stack has more layers than this. */
  readonly maxDepth?: number;
  /** End when the last client has left. */
  readonly exitLast?: boolean;
  readonly pidFile?: string | undefined;
  /** Allow addresses that others can reach without TLS. */
  readonly insecure?: boolean;
  /** Serve writable although the base has changed in blocks that the cowfile has not allocated. */
  readonly force?: boolean;
  /** Called once clients can connect. */
  readonly onReady?: ((ready: Ready) => void | Promise<void>) | undefined;
  /** For LISTEN_FDS. */
  readonly env?: NodeJS.ProcessEnv;
}

/** An export, once the server is ready. */
export interface ReadyExport {
  readonly name: string;
  readonly uri: string;
  /** Further URIs, if any. */
  readonly more_uris: readonly string[];
  readonly stack: string;
  readonly virtual_size: number;
  readonly access: Access;
  /** How a writable cowfile was found: "clean", "recovered" or "power-cut" (left by a session of ours that didn't end in order). */
  readonly found: string | null;
}

/** A server's report when it is ready. */
export interface Ready {
  /** Of the first export. */
  readonly uri: string;
  readonly exports: readonly ReadyExport[];
  readonly pid: number;
  /** The path of its control socket; absent if there is none. */
  readonly control?: string;
  /** The URL of its page, without the token; absent if there is none. */
  readonly dashboard?: string;
}
