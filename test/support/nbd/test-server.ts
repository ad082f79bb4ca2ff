/**
 * Owns a server in the test's own process, listening on a unix socket of its own, and the images that it serves. The real
 * program is program.ts' business.
 */
import { truncateSync, writeFileSync } from "node:fs";
import { afterAll } from "vitest";
import { type ServeRequest, serve } from "../../../src/lib/control/serve.ts";
import type { Storage } from "../../../src/lib/device/storage.ts";
import { create } from "../../../src/lib/index.ts";
import type { Exports } from "../../../src/lib/nbd/server/exports.ts";
import type { History } from "../../../src/lib/nbd/server/history.ts";
import { serveExports } from "../../../src/lib/nbd/server/serve.ts";
import type { ExportRequest, Ready } from "../../../src/lib/nbd/server/serve-request.ts";

export interface TestServer {
  readonly socket: string;
  readonly ready: Ready;
  readonly exports: Exports;
  readonly history: History;
  /** What the server told its user. */
  readonly notices: readonly string[];
  /** Ends it in order, as a signal would. Rejects with what the server threw. */
  stop(): Promise<void>;
  /** Resolves when it has ended, however that came. */
  readonly ended: Promise<void>;
}

const running = new Set<TestServer>();
let count = 0;

/** A server that lasts no longer than its test file. */
export async function startServing(
  at: (name: string) => string,
  stack: readonly string[] | readonly ExportRequest[],
  request: Partial<ServeRequest> = {},
  storage?: Storage,
): Promise<TestServer> {
  const socket = request.socket ?? at(`s${count++}`);
  const exports = stack
    .map((entry) => (typeof entry === "string" ? undefined : entry))
    .filter((entry) => entry !== undefined);
  const parts = stack.filter((entry) => typeof entry === "string");
  if (parts.length > 0) exports.unshift({ name: "", stack: parts.join(",") });
  const controller = new AbortController();
  const notices: string[] = [];
  const context = {
    ...(storage && { storage }),
    signal: controller.signal,
    onNotice: ({ message }: { message: string }) => void notices.push(message),
  };
  let ended: Promise<void> = Promise.resolve();
  let known: Exports | undefined;
  let past: History | undefined;
  const attendant = {
    restore: async (all: Exports) => {
      known = all;
    },
    start: async ({ history }: { readonly history: History }) => {
      past = history;
      return {};
    },
    stop: async () => undefined,
  };
  const ready = await new Promise<Ready>((resolve, reject) => {
    const listen = request.listen ? request.socket : socket;
    const whole = { ...request, exports, socket: listen, env: {}, onReady: resolve };
    const isControlled = Boolean(request.control ?? request.state ?? request.dashboard);
    ended = isControlled ? serve(whole, context) : serveExports(whole, context, attendant);
    ended.catch(reject);
  });
  const server: TestServer = {
    socket,
    ready,
    get exports() {
      if (!known) throw new Error("a server with a control socket shows its exports there");
      return known;
    },
    get history() {
      if (!past) throw new Error("a server with a control socket is asked there");
      return past;
    },
    notices,
    ended,
    stop: () => {
      running.delete(server);
      controller.abort();
      return ended;
    },
  };
  running.add(server);
  return server;
}

afterAll(async () => {
  // The scratch directory of the test may be gone by now, which they mind.
  await Promise.allSettled([...running].map((server) => server.stop()));
});

/** Makes a file of these bytes, made longer by a hole to `sizeBytes`. */
export function makeImage(path: string, bytes: Uint8Array, sizeBytes = bytes.length): string {
  writeFileSync(path, bytes);
  truncateSync(path, sizeBytes);
  return path;
}

/** Makes an empty cowfile over a stack. */
export async function makeCowfile(below: string, cowfile: string): Promise<string> {
  await create(below, cowfile, { force: true }, {});
  return cowfile;
}
