/**
 * Owns reading a socket by exact numbers of bytes while the handshake lasts. What was not asked for stays in the socket,
 * which then stops reading: a server cannot make us hold more than its buffer.
 */
import type { Duplex } from "node:stream";
import { ConnectionLost, connectionError } from "./failures.ts";

/** The next `length` bytes. @throws ConnectionLost */
export async function readExactly(socket: Duplex, length: number): Promise<Buffer> {
  if (length === 0) return Buffer.alloc(0);
  for (;;) {
    const bytes = socket.read(length) as Buffer | null;
    if (bytes?.length === length) return bytes;
    if (socket.errored) throw connectionError(socket.errored);
    if (bytes || socket.readableEnded || socket.destroyed)
      throw new ConnectionLost("the server closed the connection during the handshake");
    await nextEvent(socket);
  }
}

function nextEvent(socket: Duplex): Promise<void> {
  return new Promise((resolve) => {
    const events = ["readable", "end", "close", "error"] as const;
    const done = (): void => {
      for (const event of events) socket.off(event, done);
      resolve();
    };
    for (const event of events) socket.on(event, done);
  });
}
