/**
 * Owns the question whether the peer of a socket has gone, without reading from it. Unknown without native calls.
 */
import { libc } from "./libc.ts";

const POLLHUP = 0x10;
const POLLERR = 0x08;
const POLLRDHUP = 0x2000;

/** Has the peer closed the connection, or its side? Earlier data may still wait to be read. */
export function hasHungUp(fd: number): boolean {
  const c = libc();
  if (!c) return false;
  // struct pollfd: int fd, short events, short revents.
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  const little = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
  view.setInt32(0, fd, little);
  view.setInt16(4, POLLRDHUP, little);
  if (c.pollNow(bytes, 1) <= 0) return false;
  return (view.getInt16(6, little) & (POLLHUP | POLLERR | POLLRDHUP)) !== 0;
}
