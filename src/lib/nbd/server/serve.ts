/**
 * Owns `serve`: opens the stacks, listens, says that it is ready, and brings everything to an orderly end.
 */
import { interrupted, makePause, type OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { refusePending, storageOf } from "../../operations/files.ts";
import { tellingParts } from "../../operations/identity/sampling.ts";
import { lookAtBase } from "../../operations/identity/serve-base.ts";
import { DEFAULT_PORT, MAX_STRING_BYTES } from "../../protocol/constants.ts";
import { formatNbdUri } from "../../protocol/uri.ts";
import type { FoundState } from "../../stack/live/found-state.ts";
import { type Access, ServedStack } from "../../stack/live/served-stack.ts";
import { StackSpec } from "../../stack/spec.ts";
import type { TlsMode } from "../handshake/handshake.ts";
import { handedDown, isLoopback, type Listener, listenHandedDown, listenTcp, listenUnix } from "./listeners.ts";
import { PidFile } from "./pid-file.ts";
import type { Ready, ServeRequest } from "./serve-request.ts";
import { ServedExport } from "./served-export.ts";
import { NbdServer } from "./server.ts";
import { TlsConfig } from "./tls-config.ts";
import { lookAtFiles, watchFiles, watchSpace } from "./watch.ts";

export type { ExportRequest, Ready, ServeRequest } from "./serve-request.ts";

const FOUND_TEXTS: Readonly<Record<FoundState, string | undefined>> = {
  clean: undefined,
  recovered: "was left by a server that was killed: nothing is lost",
  "power-cut": "was being served when the machine went down: it is as of the last flush",
};

const DEFAULT_MAX_CONNECTIONS = 256;
/** A flush may be covered by the journal's log alone for at most this long. */
const CHECKPOINT_MS = 5000;

/**
 * Serves until `context.signal` fires (or, if requested, the last client has left), then ends in order: pending
 * requests are answered, everything is made durable, cowfiles are marked clean.
 *
 * @throws CowError as opening the stacks does; `usage`; `io` (address in use; something could not be made durable at
 * the end)
 */
export async function serve(request: ServeRequest, context: OperationContext = {}): Promise<void> {
  try {
    await openAndRun(request, context);
  } finally {
    // While it is open, the process does not end.
    request.stdio?.destroy();
  }
}

async function openAndRun(request: ServeRequest, context: OperationContext): Promise<void> {
  checkRequest(request);
  const tlsConfig = request.tls && new TlsConfig(request.tls, context.onNotice);
  const pidFile = request.pidFile === undefined ? undefined : new PidFile(request.pidFile);
  const opened: OpenExport[] = [];
  let failure: unknown;
  let isSound = true;
  try {
    await openExports(request, context, opened);
    const exports = opened.map(({ served }) => served);
    isSound = await run(request, context, exports, tlsConfig, async (ready) => {
      pidFile?.write();
      for (const { settleBase } of opened) settleBase();
      await request.onReady?.(ready);
    });
  } catch (error) {
    failure = error;
  }
  if (!isSound)
    failure = new CowError("io", "a thread of the server died: it ends as after a crash, and nothing answered is lost");
  lookAtFiles(
    opened.map(({ served }) => served),
    context,
  );
  for (const { stack } of opened.map(({ served }) => served)) {
    try {
      if (isSound) stack.close();
      else stack.abandon();
    } catch (error) {
      failure ??= error;
    }
    failure ??= stack.guard.loss;
  }
  // Last of all: when the pid file is gone, everything is in order.
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

interface OpenExport {
  readonly served: ServedExport;
  /** Called once it is served: writes the base record. */
  readonly settleBase: () => void;
}

/** @param opened receives each export at once, so that the caller can close it if a later one fails */
async function openExports(request: ServeRequest, context: OperationContext, opened: OpenExport[]): Promise<void> {
  const storage = storageOf(context);
  const pause = makePause(context.signal, () => interrupted("serve", "nothing was served"));
  for (const { name, stack: text } of request.exports) {
    const spec = StackSpec.parse(storage, text);
    refusePending(storage, spec, [], false);
    const access = accessOf(request, spec);
    const looking = { isWritten: access === "writable", force: request.force ?? false };
    const settleBase = spec.layers.length > 0 ? await lookAtBase(spec, looking, context) : () => undefined;
    const stack = await ServedStack.open(storage, spec, {
      access,
      repair: request.repair ?? false,
      reserveBytes: request.reserveBytes ?? 0,
      signal: context.signal,
      onNotice: context.onNotice,
    });
    opened.push({ served: new ServedExport(name, stack), settleBase });
    for (const file of stack.files) file.remember?.(await tellingParts(file, pause));
    const message = stack.found && FOUND_TEXTS[stack.found];
    if (message) context.onNotice?.({ severity: "note", file: spec.top.path, message });
  }
}

function accessOf({ readOnly, ephemeral }: ServeRequest, { layers }: StackSpec): Access {
  if (ephemeral) return "ephemeral";
  return readOnly || layers.length === 0 ? "read-only" : "writable";
}

/** @returns false if a thread died, which may have left shared memory in any state */
async function run(
  request: ServeRequest,
  context: OperationContext,
  exports: readonly ServedExport[],
  tlsConfig: TlsConfig | undefined,
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
    tlsConfig,
    maxConnections: request.maxConnections ?? DEFAULT_MAX_CONNECTIONS,
    onFailure: (message) => context.onNotice?.({ severity: "warning", message }),
    onFatal: () => {
      isSound = false;
      end();
    },
    ...(request.exitLast && { onIdle: end }),
  });
  const listeners: Listener[] = [];
  // A thread that waits for its client would keep the process from ending at once.
  const watches: NodeJS.Timeout[] = [];
  const wakeAll = (): void => server.kill();
  process.once("exit", wakeAll);
  try {
    if (!request.stdio) await startListening(request, server, listeners);
    const ready = readyOf(exports, listeners, tls !== "off");
    await onReady(ready);
    watches.push(watchSpace(request, exports, context), watchFiles(exports, context));
    watches.push(setInterval(() => checkpointAll(exports), CHECKPOINT_MS).unref());
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
    for (const watch of watches) clearInterval(watch);
    for (const listener of listeners) listener.close();
    await server.stop();
    process.off("exit", wakeAll);
  }
}

function checkpointAll(exports: readonly ServedExport[]): void {
  for (const { stack } of exports) {
    try {
      stack.checkpoint();
    } catch {
      // The next flush meets the same, and tells its client.
    }
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
