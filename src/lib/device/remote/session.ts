/**
 * Owns a connection that is made again when it is lost: interrupted work is done again on the next one, within limits.
 * A server's refusal, or a protocol violation, is final at once. Must not know threads.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { Extent } from "../../bytes/extent.ts";
import { CowError } from "../../errors.ts";
import { type NbdUri, parseNbdUri } from "../../protocol/uri.ts";
import { NbdClient } from "./client.ts";
import { type Attempted, ConnectionLost, cannot } from "./failures.ts";
import type { RemoteExport } from "./negotiate.ts";
import { type Remembered, type RememberedPart, Sameness } from "./sameness.ts";

/** Time limits; every one has a default. */
export interface RemoteLimits {
  /** How long to try to make a lost connection again. */
  readonly reconnectMs?: number;
  /** Limit for connecting and the handshake. */
  readonly handshakeMs?: number;
  /** A server that completes no reply for this long is gone. */
  readonly silenceMs?: number;
}

const RECONNECT_MS = 30_000;
const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 2000;
/** A server that disconnects on a request this often will always do so. */
const MOST_LOSSES = 5;

export class Session {
  readonly name: string;
  /** Negotiated first; a later connection must match it. */
  readonly export: RemoteExport;
  readonly #uri: NbdUri;
  readonly #limits: RemoteLimits;
  #client: NbdClient;
  #reconnecting: Promise<NbdClient> | undefined;
  /** The last attempts to connect failed until their limit. */
  #givenUp = false;

  readonly #sameness: Sameness;

  private constructor(name: string, uri: NbdUri, limits: RemoteLimits, client: NbdClient, sameness: Sameness) {
    this.#sameness = sameness;
    this.name = name;
    this.#uri = uri;
    this.#limits = limits;
    this.#client = client;
    this.export = client.export;
  }

  /**
   * @param remembered by an earlier connection: it must be the same image
   * @throws CowError `usage`, `io`, `not-found`, `permission`, `unsuitable`
   */
  static async open(name: string, limits: RemoteLimits, remembered: Remembered): Promise<Session> {
    const uri = parseNbdUri(name);
    const sameness = new Sameness(name, remembered);
    sameness.requireTrust();
    try {
      const client = await NbdClient.connect(uri, { name, ...limits });
      const session = new Session(name, uri, limits, client, sameness);
      await session.#requireSame(client);
      return session;
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
      throw new CowError("io", `cannot connect: ${error.message}`, { file: name, cause: error });
    }
  }

  /**
   * Does `work`, and does it again on another connection if this one is lost: doing it twice must do no
   * harm.
   *
   * @throws CowError; `io` if no connection could be made again within the limit
   */
  async run<Result>(attempted: Omit<Attempted, "name">, work: (client: NbdClient) => Promise<Result>): Promise<Result> {
    const attempt = { ...attempted, name: this.name };
    let losses = 0;
    let firstLossMs = 0;
    for (;;) {
      const client = await this.#connected(attempt);
      try {
        return await work(client);
      } catch (error) {
        if (!(error instanceof ConnectionLost)) throw error;
        losses++;
        firstLossMs ||= performance.now();
        // The connection can be made, but fails again: a silent server gets fewer chances than a hasty one.
        if (losses === MOST_LOSSES || performance.now() - firstLossMs > this.#reconnectMs) {
          const why = `the connection was lost ${losses} times meanwhile: ${error.message}`;
          throw new CowError("io", `${cannot(attempt)}: ${why}`, { file: this.name, cause: error });
        }
      }
    }
  }

  /** The current connection, for work that is not worth another one. @throws ConnectionLost */
  current(): NbdClient {
    this.#sameness.requireTrust();
    if (this.#client.lost) throw new ConnectionLost(this.#client.lost.message);
    return this.#client;
  }

  async close(): Promise<void> {
    await this.#client.disconnect();
  }

  get #reconnectMs(): number {
    return this.#limits.reconnectMs ?? RECONNECT_MS;
  }

  /**
   * Has parts compared whenever the connection is made again.
   *
   * @returns all remembered parts
   */
  async remember(extents: readonly Extent[], ms: number): Promise<readonly RememberedPart[]> {
    const attempted = { verb: "read", offset: extents[0]?.offset ?? 0, length: 0 };
    return this.run(attempted, (client) => this.#sameness.remember(client, extents, ms));
  }

  async #connected(attempt: Attempted): Promise<NbdClient> {
    this.#sameness.requireTrust();
    if (!this.#client.lost) return this.#client;
    this.#reconnecting ??= this.#reconnect(attempt).finally(() => {
      this.#reconnecting = undefined;
    });
    return this.#reconnecting;
  }

  async #reconnect(attempt: Attempted): Promise<NbdClient> {
    const limitMs = this.#reconnectMs;
    const began = performance.now();
    let pauseMs = FIRST_PAUSE_MS;
    for (;;) {
      const leftMs = limitMs - (performance.now() - began);
      try {
        const handshakeMs = Math.max(1, Math.min(this.#limits.handshakeMs ?? limitMs, Math.max(leftMs, 1000)));
        const client = await NbdClient.connect(this.#uri, { name: this.name, ...this.#limits, handshakeMs });
        await this.#requireSame(client);
        this.#client = client;
        this.#givenUp = false;
        return client;
      } catch (error) {
        if (!(error instanceof ConnectionLost)) throw error;
        // After waiting in vain once, each further request gets one attempt without waiting.
        if (this.#givenUp || leftMs <= pauseMs) {
          this.#givenUp = true;
          throw this.#gone(attempt, error, limitMs);
        }
      }
      await pause(pauseMs);
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
  }

  #gone(attempt: Attempted, last: ConnectionLost, limitMs: number): CowError {
    const why = `the connection was lost and could not be made again within ${limitMs / 1000} s: ${last.message}`;
    return new CowError("io", `${cannot(attempt)}: ${why}`, {
      file: this.name,
      details: { offset: attempt.offset },
      cause: last,
    });
  }

  /** @throws CowError `io` if another image has this name now; ConnectionLost */
  async #requireSame(client: NbdClient): Promise<void> {
    const { sizeBytes } = this.export;
    try {
      if (client.export.sizeBytes !== sizeBytes)
        this.#sameness.replaced(`an image of ${client.export.sizeBytes} bytes instead of ${sizeBytes}`);
      await this.#sameness.requireSame(client);
    } catch (error) {
      void client.disconnect();
      throw error;
    }
  }
}
