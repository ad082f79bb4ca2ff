/**
 * Owns one connection from its first byte to its end: the handshake on the event loop, TLS, and then the hand-over to a
 * thread of its own, or to the event loop.
 */
import * as fs from "node:fs";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { hasHungUp } from "../../device/sys/hang-up.ts";
import { canTakeSockets, endSocket, takeSocket } from "../../device/sys/socket.ts";
import { assert } from "../../errors.ts";
import { Passage } from "../../stack/live/gate.ts";
import type { Negotiated } from "../handshake/export.ts";
import { Handshake, type HandshakeHost, type HandshakeStep } from "../handshake/handshake.ts";
import type { MeteredConnection } from "../meter/export-meter.ts";
import type { WorkerJob } from "../threads/worker-messages.ts";
import type { WorkerPool } from "../threads/worker-pool.ts";
import { LoopSession } from "../transmission/loop-session.ts";
import { wordsOf } from "../transmission/wire-errors.ts";
import type { Offers } from "./offers.ts";
import type { ExportUser, ServedExport } from "./served-export.ts";
import type { TlsConfig } from "./tls-config.ts";

/** A client that has not finished the handshake by then is hung up on. */
const HANDSHAKE_MS = 30_000;
/** Unread answers of the handshake; the handshake itself gives up before. */
const UNREAD_AT_MOST = 8 << 20;

export interface ConnectionHost extends HandshakeHost {
  readonly tlsConfig: TlsConfig | undefined;
  readonly pool: WorkerPool | undefined;
  readonly offers: Offers;
  /**
   * Waits until the connections whose clients have gone are done: a client that comes back must not have its new writes
   * overwritten by its old ones.
   */
  awaitGone(): Promise<void>;
  /** Something went wrong on our side. */
  onFailure(message: string): void;
}

/** The parts of a socket's handle that Node does not document, and that every release has had. */
interface Handle {
  readonly fd?: number;
  readStop?(): void;
}

export class Connection implements ExportUser {
  readonly #host: ConnectionHost;
  #stream: Duplex;
  #handshake: Handshake | undefined;
  #timer: NodeJS.Timeout | undefined;
  #session: LoopSession | undefined;
  #served: ServedExport | undefined;
  /** Has it begun to use an export? */
  hasBegun = false;
  /** The socket while a thread has it. */
  #taken: number | undefined;
  #metered: MeteredConnection | undefined;
  #isStopping = false;
  #end: () => void = () => undefined;
  readonly #ended: Promise<void>;

  constructor(stream: Duplex, host: ConnectionHost) {
    this.#stream = stream;
    this.#host = host;
    this.#ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /** Serves the client until it leaves. Never rejects. */
  async run(): Promise<void> {
    const handshake = new Handshake(this.#host);
    this.#handshake = handshake;
    this.#timer = setTimeout(() => this.#drop(), HANDSHAKE_MS);
    this.#listen();
    this.#stream.write(handshake.greeting());
    await this.#ended;
    clearTimeout(this.#timer);
    this.#served?.users.delete(this);
  }

  /** Takes no more requests; received ones are answered. */
  stop(): void {
    this.#isStopping = true;
    this.#metered?.release();
    if (this.#taken !== undefined) endSocket(this.#taken, false);
    else if (this.#session) this.#session.finish();
    else this.#drop();
  }

  /** Resolves when it has ended. */
  get ended(): Promise<void> {
    return this.#ended;
  }

  /** Has the client gone, while a thread may still be processing its requests? */
  get isLeft(): boolean {
    return this.#taken !== undefined && hasHungUp(this.#taken);
  }

  /** Ends it now, because the client does not read its replies. */
  kill(): void {
    this.#metered?.release();
    if (this.#taken !== undefined) endSocket(this.#taken, true);
    else this.#stream.destroy();
  }

  readonly #onData = (bytes: Buffer): void => {
    if (!this.#handshake) return;
    for (const step of this.#handshake.feed(bytes)) this.#take(step);
    if (this.#stream.writableLength > UNREAD_AT_MOST) this.#drop();
  };

  readonly #onGone = (): void => this.#drop();

  #listen(): void {
    this.#stream.on("data", this.#onData).on("error", this.#onGone).on("end", this.#onGone).on("close", this.#onGone);
  }

  #unlisten(): void {
    this.#stream.off("data", this.#onData).off("end", this.#onGone).off("close", this.#onGone);
    // "error" stays: without a listener it would end the process.
  }

  #drop(): void {
    this.#handshake = undefined;
    this.#stream.destroy();
    this.#end();
  }

  #take(step: HandshakeStep): void {
    if (step.kind === "send") this.#stream.write(step.bytes);
    else if (step.kind === "close") {
      this.#handshake = undefined;
      this.#stream.end(() => this.#drop());
    } else if (step.kind === "start-tls") void this.#startTls();
    else this.#beginTransmission(step.negotiated, step.rest);
  }

  async #startTls(): Promise<void> {
    this.#unlisten();
    this.#stream.pause();
    try {
      const encrypted = await this.#host.tlsConfig?.upgrade(this.#stream);
      if (!encrypted) {
        this.#drop();
        return;
      }
      this.#stream = encrypted;
      this.#handshake?.tlsStarted();
      this.#listen();
      this.#stream.resume();
    } catch {
      // TLS itself has told the client about its failure.
      this.#drop();
    }
  }

  #beginTransmission(negotiated: Negotiated, rest: Uint8Array): void {
    this.#handshake = undefined;
    clearTimeout(this.#timer);
    const served = this.#host.offers.as(negotiated.export);
    if (!served || this.#isStopping) {
      this.#drop();
      return;
    }
    this.hasBegun = true;
    this.#served = served;
    served.users.add(this);
    this.#unlisten();
    const { pool } = this.#host;
    if (pool && served.passed && this.#stream instanceof Socket && !("encrypted" in this.#stream) && canTakeSockets()) {
      const handle = (this.#stream as unknown as { _handle?: Handle })._handle;
      // From here on, the event loop must not read a byte.
      handle?.readStop?.();
      // Everything must be sent before the socket is taken away.
      this.#stream.write(new Uint8Array(0), async () => {
        await this.#host.awaitGone();
        const fd = takeSocket(handle?.fd ?? -1);
        if (fd === undefined) {
          this.#drop();
          return;
        }
        this.#stream.destroy();
        void this.#inThread(pool, served, { fd, negotiated, rest: Uint8Array.from(rest) });
      });
      return;
    }
    void this.#inLoop(served, negotiated, rest);
  }

  async #inThread(
    pool: WorkerPool,
    served: ServedExport,
    job: Pick<WorkerJob, "fd" | "negotiated" | "rest">,
  ): Promise<void> {
    const { fd } = job;
    const metered = served.meter.connect();
    const gate = served.stack.gate.connect();
    this.#taken = fd;
    this.#metered = metered;
    if (this.#isStopping) endSocket(fd, false);
    const failure = await pool.run({
      ...job,
      exportNumber: served.number,
      image: () => {
        const { passed } = served;
        assert(passed, "an image that could be passed before");
        gate.hold();
        return passed;
      },
      meter: metered.passed,
      gate: gate.passed,
    });
    this.#taken = undefined;
    metered.close();
    gate.close();
    fs.closeSync(fd);
    if (failure !== undefined) this.#host.onFailure(failure);
    this.#end();
  }

  async #inLoop(served: ServedExport, negotiated: Negotiated, rest: Uint8Array): Promise<void> {
    const metered = served.meter.connect();
    const gate = served.stack.gate.connect();
    this.#metered = metered;
    try {
      const entered = { image: served.image, passage: new Passage(gate.passed, served) };
      this.#session = new LoopSession(this.#stream, entered, negotiated, rest, metered.passed);
      await this.#session.run();
    } catch (error) {
      this.#host.onFailure(wordsOf(error));
    }
    metered.close();
    gate.close();
    this.#end();
  }
}
