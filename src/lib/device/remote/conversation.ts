/**
 * Owns one negotiated connection as numbered requests, many under way at a time, each a promise. A lost connection
 * stays lost (see session.ts for making it again). Never waits for ever: a server that is silent for too long counts as
 * gone.
 */
import type { Duplex } from "node:stream";
import { CowError } from "../../errors.ts";
import { encodeRequest, type StatusExtent } from "../../protocol/client-requests.ts";
import { Command } from "../../protocol/constants.ts";
import { WireViolation } from "../../protocol/wire-violation.ts";
import { ConnectionLost, cannot, connectionError, refusedByServer } from "./failures.ts";
import type { RemoteExport } from "./negotiate.ts";
import { isShutdown, type Pending, type ReadSink, Receiver } from "./receiver.ts";

/** How long disconnecting waits for pending requests: some servers abort if they have to answer a client that left. */
const DRAIN_MS = 5000;
/** Received data that counts as a sign of life before the reply is complete. */
const PROGRESS_BYTES = 1 << 20;

/** A request to the server. */
export interface Asked {
  readonly command: number;
  /** For messages: `read`, … */
  readonly verb: string;
  readonly offset: number;
  readonly length: number;
  /** Of a READ. */
  readonly sink?: ReadSink;
}

interface InFlight extends Pending {
  readonly verb: string;
  readonly resolve: (pending: Pending) => void;
  readonly reject: (error: Error) => void;
}

export class Conversation {
  readonly #name: string;
  readonly #socket: Duplex;
  readonly #extended: boolean;
  readonly #silenceMs: number;
  readonly #inFlight = new Map<bigint, InFlight>();
  #silence: NodeJS.Timeout | undefined;
  #isClosing = false;
  /** Called when nothing is under way any more. */
  #onIdle: (() => void) | undefined;
  #cookie = 0n;
  #newBytes = 0;
  #lost: Error | undefined;

  /** Takes over the socket after the negotiation. @param name the URI, for messages */
  constructor(name: string, socket: Duplex, agreed: RemoteExport, silenceMs: number) {
    this.#name = name;
    this.#socket = socket;
    this.#extended = agreed.extended;
    this.#silenceMs = silenceMs;
    const receiver = new Receiver(
      { ...agreed, knowsContext: (id) => agreed.contexts.has(id) },
      (cookie) => this.#inFlight.get(cookie),
      (cookie, pending) => this.#complete(cookie, pending),
    );
    socket.on("data", (bytes: Buffer) => {
      if (this.#lost) return;
      this.#newBytes += bytes.length;
      if (this.#newBytes >= PROGRESS_BYTES) this.#alive();
      try {
        receiver.feed(bytes);
      } catch (error) {
        this.#lose(error instanceof WireViolation ? this.#violation(error) : connectionError(error));
      }
    });
    const gone = (): void =>
      this.#lose(
        socket.errored ? connectionError(socket.errored) : new ConnectionLost("the server closed the connection"),
      );
    socket.on("end", gone).on("close", gone).on("error", gone);
  }

  /** Why the connection was lost, or undefined. */
  get lost(): Error | undefined {
    return this.#lost;
  }

  /**
   * Disconnects once pending requests have been answered, or after DRAIN_MS. Resolves once the server has been told, or
   * is gone.
   */
  async close(): Promise<void> {
    this.#isClosing = true;
    await this.#drained();
    if (this.#lost) return;
    await new Promise<void>((resolve) => {
      const bye = encodeRequest(
        { command: Command.DISC, cookie: ++this.#cookie, offset: 0, length: 0 },
        this.#extended,
      );
      this.#socket.once("close", resolve);
      this.#socket.end(bye, resolve);
    });
    this.#lose(new ConnectionLost("the connection was closed"));
  }

  /** Sends a request, and resolves with the answer. @throws CowError if the server refused; ConnectionLost */
  request({ command, verb, offset, length, sink }: Asked): Promise<Pending> {
    return new Promise((resolve, reject) => {
      if (this.#lost || this.#isClosing) {
        reject(this.#lost ?? new ConnectionLost("the connection is being closed"));
        return;
      }
      const cookie = ++this.#cookie;
      const status = new Map<number, readonly StatusExtent[]>();
      const state = { gotBytes: 0, remarks: 0, failure: undefined, status };
      this.#inFlight.set(cookie, { command, verb, offset, length, sink, ...state, resolve, reject });
      if (this.#inFlight.size === 1) this.#alive();
      this.#socket.write(encodeRequest({ command, cookie, offset, length }, this.#extended));
    });
  }

  async #drained(): Promise<void> {
    if (this.#inFlight.size === 0) return;
    await new Promise<void>((resolve) => {
      const limit = setTimeout(resolve, DRAIN_MS);
      this.#onIdle = () => {
        clearTimeout(limit);
        resolve();
      };
    });
  }

  #complete(cookie: bigint, pending: Pending): void {
    const request = this.#inFlight.get(cookie);
    this.#inFlight.delete(cookie);
    this.#alive();
    const { failure } = pending;
    if (!failure) request?.resolve(pending);
    else if (isShutdown(failure)) this.#lose(new ConnectionLost("the server is shutting down"), request);
    else request?.reject(refusedByServer({ ...request, name: this.#name }, failure));
  }

  /** A sign of life: the silence timer starts again. */
  #alive(): void {
    this.#newBytes = 0;
    if (this.#inFlight.size === 0) {
      clearTimeout(this.#silence);
      this.#silence = undefined;
      this.#onIdle?.();
    } else if (this.#silence) this.#silence.refresh();
    else {
      const seconds = this.#silenceMs / 1000;
      this.#silence = setTimeout(
        () => this.#lose(new ConnectionLost(`the server did not answer for ${seconds} s`)),
        this.#silenceMs,
      );
    }
  }

  #violation({ message }: WireViolation): CowError {
    const [first] = this.#inFlight.values();
    const doing = first ? `${cannot({ ...first, name: this.#name })}: ` : "";
    return new CowError("io", `${doing}the server breaks the protocol: ${message}`, { file: this.#name });
  }

  #lose(why: Error, ...also: (InFlight | undefined)[]): void {
    if (this.#lost) return;
    this.#lost = why;
    clearTimeout(this.#silence);
    this.#socket.destroy();
    for (const request of [...also, ...this.#inFlight.values()]) request?.reject(why);
    this.#inFlight.clear();
    this.#onIdle?.();
  }
}
