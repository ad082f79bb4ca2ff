/**
 * Owns a server's direct use of connected sockets: taking a blocking descriptor, waking a thread that waits on it, and
 * receiving without waiting. There is no portable way: without native calls, sockets stay with Node's event loop.
 */
import * as fs from "node:fs";
import { Errno, libc } from "./libc.ts";

const F_GETFL = 3;
const F_SETFL = 4;
const F_DUPFD_CLOEXEC = 1030;
const MSG_DONTWAIT = 0x40;
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SHUT_RD = 0;
const SHUT_RDWR = 2;

/** Can sockets be taken away from the event loop? */
export function canTakeSockets(): boolean {
  return libc() !== null;
}

/**
 * A second descriptor for a socket, which blocks; the first may then be closed without the connection noticing.
 *
 * @returns undefined if unavailable
 */
export function takeSocket(fd: number): number | undefined {
  const c = libc();
  if (!c || fd < 0) return undefined;
  const own = c.fcntlNumber(fd, F_DUPFD_CLOEXEC, 0);
  if (own < 0) return undefined;
  const flags = c.fcntlNumber(own, F_GETFL, 0);
  if (flags < 0 || c.fcntlNumber(own, F_SETFL, flags & ~fs.constants.O_NONBLOCK) < 0) {
    fs.closeSync(own);
    return undefined;
  }
  return own;
}

/** Shuts down reading, and with `both` also writing: wakes a thread that blocks on the socket. */
export function endSocket(fd: number, both: boolean): void {
  libc()?.shutdown(fd, both ? SHUT_RDWR : SHUT_RD);
}

/** Two connected sockets that never block; undefined if unavailable. */
export function socketPair(): readonly [number, number] | undefined {
  const fds = new Int32Array(2);
  if (libc()?.socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) !== 0) return undefined;
  return [fds[0] ?? -1, fds[1] ?? -1];
}

/** Receives into one buffer, without waiting if asked. */
export class Receiver {
  readonly #fd: number;
  readonly #bytes: Uint8Array;
  readonly #address: number;

  constructor(fd: number, bytes: Uint8Array) {
    this.#fd = fd;
    this.#bytes = bytes;
    this.#address = Number(libc()?.addressOf(bytes.buffer as ArrayBuffer) ?? 0) + bytes.byteOffset;
  }

  /** Waits for bytes; 0 at the end of the stream. @throws a system error */
  wait(at: number): number {
    return fs.readSync(this.#fd, this.#bytes, at, this.#bytes.length - at, null);
  }

  /**
   * Receives what is there now: 0 at the end of the stream, -1 if there is nothing yet (or an error, which wait() will
   * throw).
   */
  now(at: number): number {
    const c = libc();
    if (!c) return -1;
    const got = c.recv(this.#fd, this.#address + at, this.#bytes.length - at, MSG_DONTWAIT);
    return got < 0 && c.errno() === Errno.EINTR ? -1 : got;
  }
}
