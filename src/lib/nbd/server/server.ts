/**
 * Owns the connections of a running server, their number, and their orderly end. listeners.ts owns listening, exports.ts
 * the exports.
 */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { canOpen } from "../../device/sys/descriptors.ts";
import { canTakeSockets } from "../../device/sys/socket.ts";
import type { TlsMode } from "../handshake/handshake.ts";
import { MemoryTidier } from "../threads/tidy-memory.ts";
import { THREAD_DESCRIPTORS, WorkerPool } from "../threads/worker-pool.ts";
import { Connection, type ConnectionHost } from "./connection.ts";
import type { Exports } from "./exports.ts";
import type { Offers } from "./offers.ts";
import type { TlsConfig } from "./tls-config.ts";

/** How long clients may take to read the last replies when the server ends. */
const PATIENCE_MS = 5000;
/** Roughly how long a dead peer goes unnoticed: first probe after this, then the system's own schedule. */
const KEEP_ALIVE_MS = 60_000;

/** Descriptors that a client may use: its sockets and a thread, and the thread that is started ahead. */
const CLIENT_DESCRIPTORS = 2 * THREAD_DESCRIPTORS;

export interface ServerOptions {
  readonly exports: Exports;
  readonly tls: TlsMode;
  readonly tlsConfig: TlsConfig | undefined;
  /** Connections at a time; further clients are hung up on. */
  readonly maxConnections: number;
  readonly onFailure: (message: string) => void;
  /** Called when the last connection has ended, if any of them has used an export. */
  readonly onIdle?: () => void;
  /** Called when a thread died at work: only a restart helps. */
  readonly onFatal: () => void;
}

export class NbdServer implements ConnectionHost {
  readonly tls: TlsMode;
  readonly tlsConfig: TlsConfig | undefined;
  readonly pool: WorkerPool | undefined;
  readonly #options: ServerOptions;
  readonly #connections = new Set<Connection>();
  readonly #tidier = new MemoryTidier();
  #isStopping = false;
  #wasUsed = false;
  /** Was there a warning about too few descriptors? */
  #wasShort = false;

  constructor(options: ServerOptions) {
    this.#options = options;
    this.tls = options.tls;
    this.tlsConfig = options.tlsConfig;
    this.#tidier.count(options.exports.all.length);
    this.pool = canTakeSockets() ? new WorkerPool(options.onFatal) : undefined;
  }

  get offers(): Offers {
    return this.#options.exports.offers;
  }

  /** All connections, also those that do not use an export yet. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  async awaitGone(): Promise<void> {
    const left = [...this.#connections].filter((connection) => connection.isLeft);
    if (left.length === 0) return;
    const limit = new Promise<void>((resolve) => setTimeout(resolve, PATIENCE_MS).unref());
    await Promise.race([Promise.all(left.map(({ ended }) => ended)), limit]);
  }

  onFailure(message: string): void {
    this.#options.onFailure(message);
  }

  /** Serves a client that has connected. */
  accept(socket: Socket): void {
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    void this.serve(socket);
  }

  /** Serves the client at the other end of a stream, until it leaves. */
  async serve(stream: Duplex): Promise<void> {
    if (this.#isStopping || this.#connections.size >= this.#options.maxConnections || !this.#hasDescriptors()) {
      stream.on("error", () => undefined);
      stream.destroy();
      return;
    }
    const connection = new Connection(stream, this);
    this.#connections.add(connection);
    await connection.run();
    this.#connections.delete(connection);
    this.#tidier.count();
    this.#wasUsed ||= connection.hasBegun;
    if (this.#connections.size === 0 && this.#wasUsed) this.#options.onIdle?.();
  }

  /** Without a free descriptor the server would die, with all of its clients. */
  #hasDescriptors(): boolean {
    if (canOpen(CLIENT_DESCRIPTORS)) {
      this.#wasShort = false;
      return true;
    }
    if (!this.#wasShort)
      this.onFailure("too many open files: clients are refused until others leave; `ulimit -n` allows more");
    this.#wasShort = true;
    return false;
  }

  /** The image of that number is not used any more: threads release it. */
  forget(number: number): void {
    this.pool?.forget(number);
    this.#tidier.count();
  }

  /** Ends all connections at once. */
  kill(): void {
    for (const connection of this.#connections) connection.kill();
  }

  /** Lets all connections finish their requests, then ends them and the threads. The stacks stay open. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const connection of this.#connections) connection.stop();
    const start = performance.now();
    while (this.#connections.size > 0) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      const waited = performance.now() - start;
      if (waited > PATIENCE_MS) this.kill();
      // The remaining connections wait for a thread that has died.
      if (waited > 2 * PATIENCE_MS) break;
    }
    this.#tidier.end();
    await this.pool?.close();
  }
}
