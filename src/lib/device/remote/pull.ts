/**
 * Owns reading exact numbers of bytes from a socket during the handshake. Other bytes stay in the socket, which then
 * stops reading: a server cannot make us keep more than its buffer.
 */
import type { Duplex } from "node:stream";
import { ConnectionLost, connectionError } from "./failures.ts";

const EVENTS = ["readable", "end", "close", "error"] as const;

export class Pull {
  readonly socket: Duplex;
  #wake: () => void = () => undefined;
  readonly #onEvent = (): void => this.#wake();

  constructor(socket: Duplex) {
    this.socket = socket;
    // Added only once: Node calls a listener that is added while some bytes are there at once, every time.
    for (const event of EVENTS) socket.on(event, this.#onEvent);
  }

  /** The next `length` bytes; one reader at a time. @throws ConnectionLost */
  async read(length: number): Promise<Buffer> {
    if (length === 0) return Buffer.alloc(0);
    for (;;) {
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      const bytes = this.socket.read(length) as Buffer | null;
      if (bytes?.length === length) return bytes;
      if (this.socket.errored) throw connectionError(this.socket.errored);
      if (bytes || this.socket.readableEnded || this.socket.destroyed)
        throw new ConnectionLost("the server closed the connection during the handshake");
      await woken;
    }
  }

  /** Gives up the socket. */
  release(): Duplex {
    for (const event of EVENTS) this.socket.off(event, this.#onEvent);
    return this.socket;
  }
}
