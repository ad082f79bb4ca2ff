/**
 * Owns `serve`: opens the stacks, listens, says that it is ready, and brings everything to an orderly end.
 */
import type { Duplex } from "node:stream";
import type { OperationContext } from "../context.ts";
import type { Storage } from "../device/storage.ts";
import { CowError } from "../errors.ts";
import { storageOf } from "../operations/files.ts";
import { lookAtBase } from "../operations/identity/serve-base.ts";
import { refusePendingMerge } from "../operations/merge/journal-places.ts";
import { type Access, ServedStack } from "../overlay/live/served-stack.ts";
import { filesOfStack, stackOf } from "../overlay/stack.ts";
import { parsePart } from "../overlay/stack-part.ts";
import { DEFAULT_PORT, MAX_STRING_BYTES } from "../protocol/constants.ts";
import { formatNbdUri } from "../protocol/uri.ts";
import type { TlsMode } from "./handshake.ts";
import { handedDown, isLoopback, type Listener, listenHandedDown, listenTcp, listenUnix } from "./listeners.ts";
import { PidFile } from "./pid-file.ts";
import { ServedExport } from "./served-export.ts";
import { NbdServer } from "./server.ts";
import { type TlsRequest, TlsTerms } from "./tls-terms.ts";

export interface ExportRequest {
  /** "" is the default export. */
  readonly name: string;
  /** Base and layers, bottom to top. */
  readonly parts: readonly string[];
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

const DEFAULT_MAX_CONNECTIONS = 256;
const DEFAULT_WARN_BELOW_BYTES = 256 << 20;
const WATCH_MS = 2000;
/** So long at most is anything that a flush covered in the journal's log alone. */
const SETTLE_MS = 5000;

/**
 * Serves until `context.signal` fires (or, if asked, the last client has left), then ends in order: what is in flight is
 * answered, everything is made durable, cowfiles are marked clean.
 *
 * @throws CowError as opening the stacks does; `usage`; `io` (address in use; something could not be made durable at the end)
 */
export async function serve(
  request: ServeRequest,
  context: OperationContext,
  onReady: (ready: Ready) => void | Promise<void>,
): Promise<void> {
  checkRequest(request);
  const storage = storageOf(context);
  const tlsTerms = request.tls && new TlsTerms(request.tls, context.onNotice);
  const exports = await openExports(storage, request, context);
  const pidFile = request.pidFile === undefined ? undefined : new PidFile(request.pidFile);
  let failure: unknown;
  let isSound = true;
  try {
    isSound = await run(request, context, exports, tlsTerms, async (ready) => {
      pidFile?.write();
      await onReady(ready);
    });
  } catch (error) {
    failure = error;
  }
  if (!isSound)
    failure = new CowError("io", "a thread of the server died: it ends as after a crash, and nothing answered is lost");
  for (const { stack } of exports) {
    try {
      if (isSound) stack.close();
      else stack.abandon();
    } catch (error) {
      failure ??= error;
    }
  }
  // Last of all: whoever waits for it to vanish finds everything in order.
  pidFile?.remove();
  if (failure !== undefined) throw failure;
}

function checkRequest({ exports, tls, listen, insecure, stdio, socket }: ServeRequest): void {
  if (exports.length === 0) throw new CowError("usage", "there is nothing to serve");
  const names = new Set<string>();
  for (const { name } of exports) {
    if (names.has(name)) throw new CowError("usage", `two exports are called "${name}"`);
    if (Buffer.byteLength(name) > MAX_STRING_BYTES || name.includes("\0"))
      throw new CowError("usage", `an export's name has at most ${MAX_STRING_BYTES} bytes, none of them NUL`);
    names.add(name);
  }
  if (stdio && (socket !== undefined || listen)) throw new CowError("usage", "--stdio listens on nothing");
  if (listen && !isLoopback(listen.host) && !tls && !insecure)
    throw new CowError(
      "usage",
      `${listen.host} can be reached by others, who could read and write without being asked`,
      {
        hints: ["--tls-certificates or --tls-psk protect it; --insecure serves it to everybody"],
      },
    );
}

async function openExports(
  storage: Storage,
  request: ServeRequest,
  context: OperationContext,
): Promise<readonly ServedExport[]> {
  const opened: ServedExport[] = [];
  try {
    for (const { name, parts } of request.exports) {
      const [base, ...layers] = filesOfStack(stackOf(parts));
      if (base !== undefined) refusePendingMerge(storage, base, layers);
      const access = accessOf(request, parts);
      const settleBase = access === "writable" ? await lookAtBase(parts, context) : undefined;
      const stack = await ServedStack.open(storage, parts, {
        access,
        repair: request.repair ?? false,
        reserveBytes: request.reserveBytes ?? 0,
        signal: context.signal,
        onNotice: context.onNotice,
      });
      opened.push(new ServedExport(name, stack));
      settleBase?.();
      const cowfile = writtenFile(parts);
      if (stack.found === "recovered")
        context.onNotice?.({
          severity: "note",
          file: cowfile,
          message: "was left by a server that was killed: nothing of it is lost",
        });
      if (stack.found === "power-cut")
        context.onNotice?.({
          severity: "note",
          file: cowfile,
          message: "was being served when the machine went down: it is as of the last flush",
        });
    }
    return opened;
  } catch (error) {
    for (const { stack } of opened) stack.close();
    throw error;
  }
}

/** The file of the top layer. */
function writtenFile(parts: readonly string[]): string {
  return parsePart(parts.at(-1) ?? "").path;
}

function accessOf({ readOnly, ephemeral }: ServeRequest, parts: readonly string[]): Access {
  if (ephemeral) return "ephemeral";
  return readOnly || parts.length === 1 ? "read-only" : "writable";
}

/** @returns false if a part of it died, so that nobody knows what state the shared memory is in */
async function run(
  request: ServeRequest,
  context: OperationContext,
  exports: readonly ServedExport[],
  tlsTerms: TlsTerms | undefined,
  onReady: (ready: Ready) => void | Promise<void>,
): Promise<boolean> {
  let isSound = true;
  let end: () => void = () => undefined;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  context.signal?.addEventListener("abort", end);
  const tls: TlsMode = request.tls?.mode ?? "off";
  const server = new NbdServer({
    exports,
    tls,
    tlsTerms,
    maxConnections: request.maxConnections ?? DEFAULT_MAX_CONNECTIONS,
    onFailure: (message) => context.onNotice?.({ severity: "warning", message }),
    onFatal: () => {
      isSound = false;
      end();
    },
    ...(request.exitLast && { onIdle: end }),
  });
  const listeners: Listener[] = [];
  // A thread that waits for its client would keep a process from ending that is told to end at once.
  let watch: NodeJS.Timeout | undefined;
  let settling: NodeJS.Timeout | undefined;
  const wakeAll = (): void => server.kill();
  process.once("exit", wakeAll);
  try {
    if (!request.stdio) listeners.push(...(await startListening(request, server)));
    const ready = readyOf(exports, listeners, tls !== "off");
    await onReady(ready);
    watch = watchSpace(request, context);
    settling = setInterval(() => settleAll(exports), SETTLE_MS).unref();
    if (context.signal?.aborted) end();
    if (request.stdio)
      void server
        .serve(request.stdio)
        .then(() => request.stdio?.destroy())
        .then(end);
    await ended;
    return isSound;
  } finally {
    context.signal?.removeEventListener("abort", end);
    clearInterval(watch);
    clearInterval(settling);
    for (const listener of listeners) listener.close();
    await server.stop();
    process.off("exit", wakeAll);
  }
}

function settleAll(exports: readonly ServedExport[]): void {
  for (const { stack } of exports) {
    try {
      stack.settle();
    } catch {
      // The next flush meets the same, and tells its client.
    }
  }
}

/** Warns when space runs low, once each time; what the original's cowwatch did. */
function watchSpace(request: ServeRequest, context: OperationContext): NodeJS.Timeout {
  const storage = storageOf(context);
  const limit = Math.max(request.warnBelowBytes ?? DEFAULT_WARN_BELOW_BYTES, (request.reserveBytes ?? 0) * 1.25);
  const warned = new Set<string>();
  const look = (): void => {
    for (const { parts } of request.exports) {
      const file = writtenFile(parts);
      if (accessOf(request, parts) !== "writable") continue;
      const free = storage.freeBytes(file);
      if (free === undefined || free >= limit) warned.delete(file);
      else if (!warned.has(file)) {
        warned.add(file);
        context.onNotice?.({ severity: "warning", file, message: `${free} bytes are left on its file system` });
      }
    }
  };
  look();
  return setInterval(look, WATCH_MS).unref();
}

async function startListening(request: ServeRequest, server: NbdServer): Promise<readonly Listener[]> {
  const onSocket = server.accept.bind(server);
  const count = handedDown(request.env ?? process.env);
  if (count > 0 && request.socket === undefined && !request.listen)
    return Promise.all(Array.from({ length: count }, (_, i) => listenHandedDown(i, onSocket)));
  const listeners: Listener[] = [];
  if (request.socket !== undefined) listeners.push(await listenUnix(request.socket, onSocket));
  const tcp = request.listen ?? (request.socket === undefined ? { host: "127.0.0.1", port: DEFAULT_PORT } : undefined);
  if (tcp) {
    try {
      listeners.push(await listenTcp(tcp.host, tcp.port, onSocket));
    } catch (error) {
      for (const listener of listeners) listener.close();
      throw error;
    }
  }
  return listeners;
}

function readyOf(exports: readonly ServedExport[], listeners: readonly Listener[], tls: boolean): Ready {
  const uriOf = (address: Listener["at"], exportName: string): string =>
    formatNbdUri({ address, exportName, tls: tls ? { verifyPeer: true } : undefined });
  const described = exports.map(({ facts, stack }) => ({
    name: facts.name,
    uri: listeners[0] ? uriOf(listeners[0].at, facts.name) : "",
    more_uris: listeners.slice(1).map(({ at }) => uriOf(at, facts.name)),
    stack: stack.name,
    virtual_size: stack.sizeBytes,
    access: stack.access,
    found: stack.found ?? null,
  }));
  return { uri: described[0]?.uri ?? "", exports: described, pid: process.pid };
}
