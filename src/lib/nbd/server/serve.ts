/**
 * Owns `serve`: opens the stacks, listens, says that it is ready, and brings everything to an orderly end.
 */
import type { OperationContext } from "../../context.ts";
import { lookedUpTogether } from "../../device/sys/in-use.ts";
import { preferSmallMemory } from "../../device/sys/memory.ts";
import { CowError } from "../../errors.ts";
import { DEFAULT_PORT } from "../../protocol/constants.ts";
import { formatNbdUri } from "../../protocol/uri.ts";
import type { TlsMode } from "../handshake/handshake.ts";
import { Exports } from "./exports.ts";
import { History } from "./history.ts";
import { handedDown, isLoopback, type Listener, listenHandedDown, listenTcp, listenUnix } from "./listeners.ts";
import type { ExportEntry } from "./live-export.ts";
import { PidFile } from "./pid-file.ts";
import type { Ready, ReadyExport, ServeRequest } from "./serve-request.ts";
import { NbdServer } from "./server.ts";
import { TlsConfig } from "./tls-config.ts";
import { checkpointNowAndThen, lookAtFiles, watchFiles, watchSpace } from "./watch.ts";

const DEFAULT_MAX_CONNECTIONS = 256;

/** A running server, for what is beside it. */
export interface RunningServer {
  readonly exports: Exports;
  readonly history: History;
  /** The URIs of an export, the first one first; none with `stdio`. */
  readonly urisOf: (name: string) => readonly string[];
  readonly connectionCount: () => number;
  /** Begins the orderly end. */
  readonly end: () => void;
}

/** What is beside a server while it runs, such as its control socket. */
export interface Attendant {
  /** Adds exports, before clients can connect. */
  restore(exports: Exports): Promise<void>;
  /** Clients can connect. @returns what is added to the report that it is ready */
  start(server: RunningServer): Promise<Partial<Ready>>;
  /** The server ends. */
  stop(): Promise<void>;
}

/**
 * Serves until `context.signal` fires (or, if requested, the last client has left), then ends in order: pending
 * requests are answered, everything is made durable, cowfiles are marked clean.
 *
 * @param attendant what is beside it; with one the server may start without an export
 * @throws CowError as opening the stacks does; `usage`; `io` (address in use; something could not be made durable at
 * the end)
 */
export async function serveExports(
  request: ServeRequest,
  context: OperationContext,
  attendant?: Attendant,
): Promise<void> {
  try {
    checkRequest(request, attendant !== undefined);
    await openAndRun(request, context, attendant);
  } finally {
    // While it is open, the process does not end.
    request.stdio?.destroy();
  }
}

async function openAndRun(
  request: ServeRequest,
  context: OperationContext,
  attendant: Attendant | undefined,
): Promise<void> {
  // Before the first export: the memory that each shares with threads is large, and little of that is touched.
  preferSmallMemory();
  const { readOnly, ephemeral, repair, force, reserveBytes, quotaBytes } = request;
  const tlsConfig = request.tls && new TlsConfig(request.tls, context.onNotice);
  const pidFile = request.pidFile === undefined ? undefined : new PidFile(request.pidFile);
  const running = new Running();
  const access = ephemeral ? "ephemeral" : readOnly ? "read-only" : undefined;
  const exports = new Exports(
    {
      defaults: { access, repair, force, reserveBytes, quotaBytes },
      onClosed: (number) => running.server?.forget(number),
      isSound: () => running.isSound,
    },
    context,
  );
  let failure: unknown;
  try {
    await lookedUpTogether(async () => {
      for (const each of request.exports) await exports.add({ ...each, isGiven: true });
      await attendant?.restore(exports);
    });
    await run({ request, context, exports, tlsConfig, running, attendant, onReady: () => pidFile?.write() });
  } catch (error) {
    failure = error;
  }
  if (!running.isSound)
    failure = new CowError("io", "a thread of the server died: it ends as after a crash, and nothing answered is lost");
  lookAtFiles(exports, context);
  const loss = await exports.end();
  failure ??= loss;
  // Last of all: when the pid file is gone, everything is in order.
  pidFile?.remove();
  if (failure !== undefined) throw failure;
}

function checkRequest(request: ServeRequest, mayBeEmpty: boolean): void {
  const { exports, tls, listen, insecure, stdio, socket } = request;
  if (exports.length === 0 && !mayBeEmpty) throw new CowError("usage", "there is nothing to serve");
  const names = new Set<string>();
  for (const { name } of exports) {
    if (names.has(name)) throw new CowError("usage", `two exports are called "${name}"`);
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

/** What the exports, which are there first, ask the server. */
class Running {
  server: NbdServer | undefined;
  /** False if a thread died, which may have left shared memory in any state. */
  isSound = true;
}

interface Run {
  readonly request: ServeRequest;
  readonly context: OperationContext;
  readonly exports: Exports;
  readonly tlsConfig: TlsConfig | undefined;
  readonly running: Running;
  readonly attendant: Attendant | undefined;
  readonly onReady: () => void;
}

async function run({ request, context, exports, tlsConfig, running, attendant, onReady }: Run): Promise<void> {
  let end: () => void = () => undefined;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  context.signal?.addEventListener("abort", end);
  const tls: TlsMode = request.tls?.mode ?? "off";
  const server = new NbdServer({
    exports,
    tls,
    tlsConfig,
    maxConnections: request.maxConnections ?? DEFAULT_MAX_CONNECTIONS,
    onFailure: (message) => context.onNotice?.({ severity: "warning", message }),
    onFatal: () => {
      running.isSound = false;
      end();
    },
    ...(request.exitLast && { onIdle: end }),
  });
  running.server = server;
  const listeners: Listener[] = [];
  // A thread that waits for its client would keep the process from ending at once.
  const watches: NodeJS.Timeout[] = [];
  const wakeAll = (): void => server.kill();
  process.once("exit", wakeAll);
  try {
    if (!request.stdio) await startListening(request, server, listeners);
    const urisOf = (exportName: string): readonly string[] =>
      listeners.map(({ at }) =>
        formatNbdUri({ address: at, exportName, tls: tls === "off" ? undefined : { verifyPeer: true } }),
      );
    const history = new History(
      exports,
      context,
      (number, image) => server.pool?.tell(number, image),
      request.maxDepth,
    );
    const connectionCount = (): number => server.connectionCount;
    const beside = await attendant?.start({ exports, history, urisOf, connectionCount, end });
    onReady();
    exports.begin();
    await request.onReady?.({ ...readyOf(exports.all, urisOf), ...beside });
    watches.push(watchSpace(request, exports, context), watchFiles(exports, context), checkpointNowAndThen(exports));
    if (context.signal?.aborted) end();
    if (request.stdio)
      void server
        .serve(request.stdio)
        .then(() => request.stdio?.destroy())
        .then(end);
    await ended;
  } finally {
    context.signal?.removeEventListener("abort", end);
    for (const watch of watches) clearInterval(watch);
    for (const listener of listeners) listener.close();
    await attendant?.stop();
    await server.stop();
    process.off("exit", wakeAll);
  }
}

/** @param listeners receives each listener at once, so that the caller can close it if a later one fails */
async function startListening(request: ServeRequest, server: NbdServer, listeners: Listener[]): Promise<void> {
  const onSocket = server.accept.bind(server);
  const count = handedDown(request.env ?? process.env);
  if (count > 0 && request.socket === undefined && !request.listen)
    for (let i = 0; i < count; i++) listeners.push(await listenHandedDown(i, onSocket));
  else {
    if (request.socket !== undefined) listeners.push(await listenUnix(request.socket, onSocket));
    const isDefault = request.socket === undefined && !request.listen;
    const tcp = isDefault ? { host: "127.0.0.1", port: DEFAULT_PORT } : request.listen;
    if (tcp) listeners.push(await listenTcp(tcp.host, tcp.port, onSocket));
  }
}

function readyOf(entries: readonly ExportEntry[], urisOf: RunningServer["urisOf"]): Ready {
  const exports = entries.flatMap(({ name, served }): ReadyExport[] => {
    if (!served) return [];
    const { stack } = served;
    const [uri = "", ...more] = urisOf(name);
    return [
      {
        name,
        uri,
        more_uris: more,
        stack: stack.name,
        virtual_size: stack.sizeBytes,
        access: stack.access,
        found: stack.found ?? null,
      },
    ];
  });
  return { uri: exports[0]?.uri ?? "", exports, pid: process.pid };
}
